"""What people can do with jobs. Pages, the API and commands call these and nothing below them.

Each checks the role, reports all problems at once, writes in one short transaction together with its
event and its audit row, and sends its signal after commit.
"""

from training.services.autoconfig import configure
from training.services.change import change, delete, rename, restore, set_notes, set_priority
from training.services.control import request_kill, request_pause, request_stop, resume
from training.services.create import (
    checked_training,
    clone_settings,
    create_dataset_import,
    create_model_import,
    create_training,
    save_upload,
)
from training.services.derive import create_generated_dataset, create_student
from training.services.evaluate import create_evaluation
from training.services.presets import change_preset, create_preset, delete_preset, find_preset

__all__ = [
    "change",
    "change_preset",
    "checked_training",
    "clone_settings",
    "configure",
    "create_dataset_import",
    "create_evaluation",
    "create_generated_dataset",
    "create_model_import",
    "create_preset",
    "create_student",
    "create_training",
    "delete",
    "delete_preset",
    "find_preset",
    "rename",
    "request_kill",
    "request_pause",
    "request_stop",
    "restore",
    "resume",
    "save_upload",
    "set_notes",
    "set_priority",
]
