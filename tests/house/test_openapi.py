"""The API within v1 only grows: what stands in the stored description stays true.

After an addition, store the new one: ``MLXP_STORE_OPENAPI=1 python -m pytest tests/house/test_openapi.py``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mlxplatform.api import api

STORED = Path(__file__).parent / "openapi.json"


def described() -> dict[str, Any]:
    return json.loads(json.dumps(api.get_openapi_schema(), sort_keys=True))


def lost(old: Any, new: Any, at: str = "") -> list[str]:
    """Places where ``new`` no longer says what ``old`` said; a body may not need more than before."""
    if isinstance(old, dict) and isinstance(new, dict):
        gone = [f"{at}/{key} is gone" for key in old.keys() - new.keys()]
        return gone + [w for key in old.keys() & new.keys() for w in lost(old[key], new[key], f"{at}/{key}")]
    if at.endswith(("/description", "/summary", "/title")) or old == new:
        return []
    if at.endswith("/required"):
        extra = set(new) - set(old)
        return [f"{at} now also needs {sorted(extra)}"] if extra and "In/" in at else []
    return [f"{at}: {old!r} became {new!r}"]


def test_nothing_of_v1_is_lost(db: None) -> None:
    if os.environ.get("MLXP_STORE_OPENAPI"):
        STORED.write_text(json.dumps(described(), indent=1, sort_keys=True) + "\n")
    assert lost(json.loads(STORED.read_text()), described()) == []


def test_additions_are_stored(db: None) -> None:
    assert json.loads(STORED.read_text())["paths"].keys() == described()["paths"].keys()


def test_a_loss_is_noticed() -> None:
    old = {"paths": {"/a": {"get": {}}, "/b": {"get": {"type": "string"}}}}
    assert lost(old, {"paths": {"/b": {"get": {"type": "number"}}, "/c": {}}}) == [
        "/paths//a is gone",
        "/paths//b/get/type: 'string' became 'number'",
    ]


def test_every_operation_says_what_it_does() -> None:
    for path, methods in described()["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description"), f"{method} {path}"
