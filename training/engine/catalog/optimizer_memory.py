"""What an optimizer keeps for each trained weight, beside the weight and its gradient."""

from __future__ import annotations

from typing import Any

FLOAT = 4.0  # bytes: all memory is float32
_MEANS = {
    "adamw": 2,
    "adam": 2,
    "adamax": 2,
    "nadam": 2,
    "radam": 2,
    "lion": 1,
    "muon": 1,
    "adafactor": 0,
    "sgd": 1,
    "rmsprop": 1,
    "adagrad": 1,
    "adadelta": 2,
}
_EIGHT_BIT = {"adamw_8bit": 2, "adam_8bit": 2, "lion_8bit": 1}
BLOCK = 128  # weights that share a float32 scale in 8 bits


def state_bytes(settings: Any) -> float:
    """Bytes for each weight of a large matrix in a block of the model; adapters count their own few weights only.

    Adafactor keeps a number for each row and column, which is next to nothing. Muon's holds for matrices: all
    other weights take AdamW's.
    """
    if settings.name in _EIGHT_BIT:
        return _EIGHT_BIT[settings.name] * (1.0 + FLOAT / BLOCK)
    means = _MEANS[settings.name]
    if settings.name == "sgd" and not settings.momentum:
        means = 0
    if settings.name == "adafactor" and settings.beta1 is not None:
        means = 1
    if settings.name == "rmsprop":
        means += bool(settings.momentum) + bool(settings.centered)
    return means * FLOAT
