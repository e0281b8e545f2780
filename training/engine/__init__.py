"""The engine: a program of its own that trains one model and talks through files.

It knows neither Django nor the database. The platform writes its ``config.json``, reads its
``events.jsonl`` and sends it a signal; nothing else crosses that wall.
"""

from typing import Final

ENGINE_VERSION: Final = "0.1.0"
SCHEMA: Final = 1
