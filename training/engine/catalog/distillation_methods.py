"""Methods that learn from a teacher: a larger model that knows the same tokens."""

from __future__ import annotations

from typing import ClassVar, Literal

from training.engine.catalog.method_settings import SUPERVISED, Group, MethodSettings, Other
from training.engine.catalog.rows import setting


class _Distilled(MethodSettings):
    group: ClassVar[Group] = "Distillation"
    takes: ClassVar[tuple[Other, ...]] = ("teacher",)

    divergence: Literal["forward_kl", "reverse_kl", "jsd"] = setting(
        "forward_kl",
        "Divergence",
        "'forward_kl': the student covers all that the teacher may say. 'reverse_kl': it keeps to what the teacher "
        "says most. 'jsd' lies between them.",
        level="adjust",
    )
    jsd_beta: float = setting(
        0.5, "JSD beta", "Where 'jsd' lies: near 0 like forward KL, near 1 like reverse KL.", gt=0, lt=1
    )
    temperature: float = setting(
        1.0,
        "Temperature",
        "Divides both models' logits before they are compared. Above 1, unlikely tokens of the teacher count more; "
        "2 is usual.",
        level="adjust",
        gt=0,
        le=100,
    )

    @property
    def needs(self) -> tuple[Other, ...]:
        """Always a teacher."""
        return ("teacher",)


class Distillation(_Distilled):
    """Distillation (Hinton et al. 2015, arXiv 1503.02531) on the answers in the data."""

    name: Literal["distillation"] = "distillation"
    alpha: float = setting(
        0.0,
        "Share of the data",
        "Share of plain cross-entropy on the data in the loss; the rest is the divergence from the teacher.",
        level="adjust",
        ge=0,
        lt=1,
    )
    top_k: int = setting(
        64,
        "Teacher's tokens",
        "Of each place the teacher's so many likeliest tokens are computed once and kept on the disk (8 bytes each), "
        "and the teacher leaves memory. 0: it stays in memory, and all of its tokens count.",
        level="adjust",
        ge=0,
        le=100_000,
        unit="tokens",
    )
    train_on: Literal["assistant", "last", "all"] = setting(
        "assistant",
        "Train on",
        "Which tokens the loss counts. 'assistant': every answer of the assistant. 'last': only the last answer. "
        "'all': the questions too.",
        level="adjust",
    )

    @property
    def holds(self) -> tuple[Other, ...]:
        """Nobody, once the teacher has told its likeliest tokens."""
        return () if self.top_k else self.needs


class Gkd(_Distilled):
    """Generalised knowledge distillation (Agarwal et al. 2024, arXiv 2306.13649): on the student's own answers."""

    reads: ClassVar[tuple[str, ...]] = ("prompts", *(name for name in SUPERVISED if name != "text"), "preference")
    online: ClassVar[bool] = True

    name: Literal["gkd"] = "gkd"
    lmbda: float = setting(
        0.5,
        "Share of own answers",
        "Share of the rollouts in which the student answers by itself; the others are the answers in the data. 1 needs "
        "no answers in the data.",
        level="adjust",
        ge=0,
        le=1,
    )
    rollout_batch: int = setting(
        16,
        "Prompts of a rollout",
        "Answered together with the weights of that moment. Micro-batch × accumulation gives one update for each.",
        level="adjust",
        ge=1,
        le=1 << 16,
        unit="prompts",
    )
    max_completion_length: int = setting(
        128, "Longest answer", "An own answer is cut here.", level="adjust", ge=1, le=1 << 16, unit="tokens"
    )
    sampling_temperature: float = setting(
        1.0, "Temperature of answers", "Of the student's own answers; below 1 they differ less.", gt=0, le=10
    )
