"""Methods that learn the next token of given text."""

from __future__ import annotations

from typing import Literal

from training.engine.catalog.method_settings import MethodSettings
from training.engine.catalog.rows import setting


class _NextToken(MethodSettings):
    label_smoothing: float = setting(
        0.0,
        "Label smoothing",
        "Share of the target that is spread over all tokens. Against too much certainty; 0.1 is much. "
        "The validation loss is always plain.",
        ge=0,
        lt=1,
    )
    z_loss: float = setting(
        0.0,
        "Z-loss",
        "Weight of a penalty that keeps the logits from drifting; 1e-4 is usual. The validation loss is always plain.",
        ge=0,
        le=1,
    )


class Sft(_NextToken):
    """Supervised fine-tuning: cross-entropy of the next token, in nats per trained token."""

    name: Literal["sft"] = "sft"
    train_on: Literal["assistant", "last", "all"] = setting(
        "assistant",
        "Train on",
        "Which tokens the loss counts. 'assistant': every answer of the assistant. 'last': only the last answer. "
        "'all': the questions too.",
        level="adjust",
    )


class Cpt(_NextToken):
    """Continued pre-training: cross-entropy of every next token; a long text becomes several rows, nothing is cut."""

    name: Literal["cpt"] = "cpt"
