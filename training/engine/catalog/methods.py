"""Training methods."""

from __future__ import annotations

from typing import Literal

from training.engine.catalog.distillation_methods import Distillation
from training.engine.catalog.method_settings import MethodSettings
from training.engine.catalog.preference_methods import Cpo, Dpo, Kto, Orpo, RewardModel, SimPo
from training.engine.catalog.rows import Catalog, Row, setting


class Sft(MethodSettings):
    """Supervised fine-tuning: cross-entropy of the next token, in nats per trained token."""

    name: Literal["sft"] = "sft"
    train_on: Literal["assistant", "last", "all"] = setting(
        "assistant",
        "Train on",
        "Which tokens the loss counts. 'assistant': every answer of the assistant. 'last': only the last answer. "
        "'all': the questions too, as in continued pre-training.",
        level="adjust",
    )
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


METHODS = Catalog(
    "method",
    Row(
        Sft,
        "Supervised fine-tuning",
        "Teaches by example: the model learns to give the answers in your data.",
        "training.engine.methods.sft:Sft",
    ),
    Row(
        Distillation,
        "Distillation",
        "Learns from a larger model, the teacher: from all it might have said, not from one answer alone.",
        "training.engine.methods.distillation:Distillation",
    ),
    Row(
        Dpo,
        "DPO",
        "Learns from pairs: a better and a worse answer to the same question. Start from a fine-tuned model.",
        "training.engine.methods.dpo:Dpo",
    ),
    Row(
        Kto,
        "KTO",
        "Learns from single answers that are marked as good or bad.",
        "training.engine.methods.kto:Kto",
    ),
    Row(
        Orpo,
        "ORPO",
        "Learns from pairs and imitates the better answer at the same time. Starts from a base model.",
        "training.engine.methods.orpo:Orpo",
    ),
    Row(
        SimPo,
        "SimPO",
        "Learns from pairs without a reference; long answers have no advantage.",
        "training.engine.methods.simpo:SimPo",
    ),
    Row(
        Cpo,
        "CPO",
        "Learns from pairs without a reference, and imitates the better answer.",
        "training.engine.methods.cpo:Cpo",
    ),
    Row(
        RewardModel,
        "Reward model",
        "Learns to score answers from pairs. PPO, GRPO and evaluations use the score.",
        "training.engine.methods.reward_model:RewardModel",
    ),
)
