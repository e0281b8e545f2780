"""Optimizers. Where MLX's definition differs from the reference, ours is the reference's."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from training.engine.catalog.rows import Catalog, Row, Settings, setting

Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


class _Adam(Settings):
    betas: tuple[Beta, Beta] = setting(
        (0.9, 0.999), "Betas", "Memory of the running mean and of the running square of the gradient."
    )
    eps: float = setting(1e-8, "Epsilon", "Keeps the division stable where gradients are tiny.", gt=0, le=1e-2)
    weight_decay: float = setting(
        0.01, "Weight decay", "Pulls weights towards zero each update, in proportion to the rate.", ge=0, le=1
    )
    bias_correction: bool = setting(
        True,
        "Bias correction",
        "Corrects the first updates for the empty memory. MLX leaves it off; papers have it on.",
    )


class AdamW(_Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2)."""

    name: Literal["adamw"] = "adamw"


class AdamW8Bit(_Adam):
    """AdamW whose memory is kept in 8 bits, in blocks (Dettmers et al. 2022, arXiv 2110.02861)."""

    name: Literal["adamw_8bit"] = "adamw_8bit"


class Sgd(Settings):
    """Stochastic gradient descent with momentum (as torch.optim.SGD defines it)."""

    name: Literal["sgd"] = "sgd"
    momentum: float = setting(0.9, "Momentum", "Share of the last update that carries on.", ge=0, lt=1)
    nesterov: bool = setting(False, "Nesterov", "Looks ahead along the momentum before it steps.")
    weight_decay: float = setting(0.0, "Weight decay", "L2 penalty, added to the gradient.", ge=0, le=1)

    @field_validator("nesterov")
    @classmethod
    def _looks_along_something(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("momentum") == 0:
            raise ValueError("Nesterov looks ahead along the momentum, so the momentum must be above 0")
        return value


class Lion(Settings):
    """Sign of an interpolated momentum (Chen et al. 2023, arXiv 2302.06675). Wants a rate 3 to 10 times lower."""

    name: Literal["lion"] = "lion"
    betas: tuple[Beta, Beta] = setting((0.9, 0.99), "Betas", "Interpolation for the update and memory of the momentum.")
    weight_decay: float = setting(0.0, "Weight decay", "Pulls weights towards zero each update.", ge=0, le=1)


OPTIMIZERS = Catalog(
    "optimizer",
    Row(AdamW, "AdamW", "The usual choice. Adapts the step of each weight.", "training.engine.optim:adamw"),
    Row(
        AdamW8Bit,
        "AdamW, 8 bits",
        "AdamW with a quarter of its memory. For full fine-tuning; adapters are small anyway.",
        "training.engine.optim_8bit:build",
    ),
    Row(Lion, "Lion", "Half of AdamW's memory; use a 3 to 10 times lower rate.", "training.engine.optim:lion"),
    Row(
        Sgd,
        "SGD",
        "Plain gradient descent with momentum. Least memory, needs a higher rate.",
        "training.engine.optim:sgd",
    ),
)
