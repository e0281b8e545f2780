"""What people can do with pipelines and runs. Pages, the API and commands call these and nothing below them."""

from pipelines.services.advance import advance, advance_all
from pipelines.services.control import approve, cancel, pause, reject, resume, retry
from pipelines.services.define import (
    change,
    checked,
    create,
    delete,
    from_template,
    parsed,
    template_definition,
    template_yaml,
)
from pipelines.services.start import start

__all__ = [
    "advance",
    "advance_all",
    "approve",
    "cancel",
    "change",
    "checked",
    "create",
    "delete",
    "from_template",
    "parsed",
    "pause",
    "reject",
    "resume",
    "retry",
    "start",
    "template_definition",
    "template_yaml",
]
