"""Optimizers. Where MLX's definition differs from the reference, ours is the reference's.

The reference is ``torch.optim``; for Adafactor it is transformers', for Lion its paper. Rates stand in
``TrainSettings.learning_rate``. Weight decay leaves norms and biases alone unless asked otherwise.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from training.engine.catalog.rows import Catalog, Row, Settings, setting

Beta = Annotated[float, Field(ge=0.0, lt=1.0)]
Epsilon = Annotated[float, Field(gt=0.0, le=1.0)]

_L2 = "L2 penalty, added to the gradient."
_BETAS = "Memory of the running mean and of the running square of the gradient."
_EPS = "Keeps the division stable where gradients are tiny."
_DECOUPLED = "Pulls weights towards zero each update, in proportion to the rate."
_IN_PLACE_OF_L2 = "The decay acts on the weights, as in AdamW, in place of an L2 penalty."


class OptimizerSettings(Settings):
    """What all optimizers' settings can be asked."""

    def for_weight(self, *, block_matrix: bool) -> OptimizerSettings:  # noqa: ARG002 - Muon tells weights apart
        """The settings for one weight; ``block_matrix``: it has two axes and belongs to a block."""
        return self

    @property
    def follows_rate(self) -> bool:
        """Whether the learning rate has any effect."""
        return True


class _Adam(OptimizerSettings):
    betas: tuple[Beta, Beta] = setting((0.9, 0.999), "Betas", _BETAS)
    eps: float = setting(1e-8, "Epsilon", _EPS, gt=0, le=1e-2)
    weight_decay: float = setting(0.01, "Weight decay", _DECOUPLED, ge=0, le=1)
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


class _AdamL2(OptimizerSettings):
    betas: tuple[Beta, Beta] = setting((0.9, 0.999), "Betas", _BETAS)
    eps: float = setting(1e-8, "Epsilon", _EPS, gt=0, le=1e-2)
    weight_decay: float = setting(0.0, "Weight decay", _L2, ge=0, le=1)


class Adam(_AdamL2):
    """Kingma and Ba 2015, arXiv 1412.6980, algorithm 1; amsgrad: Reddi et al. 2018, arXiv 1904.09237.

    As torch.optim.Adam. MLX's has no bias correction by default, no weight decay and no amsgrad.
    """

    name: Literal["adam"] = "adam"
    amsgrad: bool = setting(
        False, "AMSGrad", "Divides by the largest running square so far, so that steps only shrink."
    )


class Adam8Bit(_AdamL2):
    """Adam whose memory is kept in 8 bits, in blocks (Dettmers et al. 2022, arXiv 2110.02861)."""

    name: Literal["adam_8bit"] = "adam_8bit"


class Adamax(_AdamL2):
    """Adam with the largest gradient in place of the running square (Kingma and Ba 2015, algorithm 2).

    As torch.optim.Adamax. MLX's corrects no bias and adds epsilon to the divisor.
    """

    name: Literal["adamax"] = "adamax"


class NAdam(_AdamL2):
    """Adam with Nesterov momentum (Dozat 2016), as torch.optim.NAdam. MLX has none."""

    name: Literal["nadam"] = "nadam"
    momentum_decay: float = setting(4e-3, "Momentum decay", "How fast the momentum grows to its full size.", ge=0, le=1)
    decoupled_weight_decay: bool = setting(False, "Decoupled decay", _IN_PLACE_OF_L2)


class RAdam(_AdamL2):
    """Rectified Adam: plain momentum until the running square can be trusted (Liu et al. 2020, arXiv 1908.03265).

    As torch.optim.RAdam. MLX has none.
    """

    name: Literal["radam"] = "radam"
    decoupled_weight_decay: bool = setting(False, "Decoupled decay", _IN_PLACE_OF_L2)


class Sgd(OptimizerSettings):
    """Stochastic gradient descent with momentum, as torch.optim.SGD. MLX's damps the first update, too."""

    name: Literal["sgd"] = "sgd"
    momentum: float = setting(0.9, "Momentum", "Share of the last update that carries on.", ge=0, lt=1)
    dampening: float = setting(
        0.0, "Dampening", "Share of a gradient that is kept out of the momentum; not at the first update.", ge=0, le=1
    )
    nesterov: bool = setting(False, "Nesterov", "Looks ahead along the momentum before it steps.")
    weight_decay: float = setting(0.0, "Weight decay", _L2, ge=0, le=1)

    @field_validator("nesterov")
    @classmethod
    def _looks_along_something(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("momentum") == 0:
            raise ValueError("Nesterov looks ahead along the momentum, so the momentum must be above 0")
        if value and info.data.get("dampening", 0) > 0:
            raise ValueError("Nesterov needs the whole momentum, so the dampening must be 0")
        return value


class _Lion(OptimizerSettings):
    betas: tuple[Beta, Beta] = setting((0.9, 0.99), "Betas", "Interpolation for the update and memory of the momentum.")
    weight_decay: float = setting(0.0, "Weight decay", "Pulls weights towards zero each update.", ge=0, le=1)


class Lion(_Lion):
    """Sign of an interpolated momentum (Chen et al. 2023, arXiv 2302.06675). Wants a rate 3 to 10 times lower."""

    name: Literal["lion"] = "lion"


class Lion8Bit(_Lion):
    """Lion whose momentum is kept in 8 bits, in blocks: a byte for each weight (Dettmers et al. 2022)."""

    name: Literal["lion_8bit"] = "lion_8bit"


class Muon(OptimizerSettings):
    """Momentum made orthogonal, for the matrices of the blocks; all other weights take AdamW (Jordan 2024).

    As torch.optim.Muon, computed in float32 where torch rounds to bfloat16. MLX's adds the weight decay to
    the gradient before it is made orthogonal.
    """

    name: Literal["muon"] = "muon"
    momentum: float = setting(0.95, "Momentum", "Memory of the running mean of the gradient.", ge=0, lt=1)
    nesterov: bool = setting(True, "Nesterov", "Looks ahead along the momentum before it steps.")
    ns_steps: int = setting(5, "Newton–Schulz steps", "Rounds of making the update orthogonal.", ge=1, le=20)
    adjust_lr_fn: Literal["match_rms_adamw", "original"] = setting(
        "match_rms_adamw",
        "Step size",
        "match_rms_adamw takes AdamW's rates (Liu et al. 2025); original wants about 0.02, also for the rest.",
    )
    weight_decay: float = setting(0.1, "Weight decay", _DECOUPLED, ge=0, le=1)
    betas: tuple[Beta, Beta] = setting((0.9, 0.999), "Betas of the rest", "AdamW's, for all weights but the matrices.")
    eps: float = setting(1e-8, "Epsilon of the rest", _EPS, gt=0, le=1e-2)

    def for_weight(self, *, block_matrix: bool) -> OptimizerSettings:
        """AdamW's for embeddings, heads, norms, biases and everything without exactly two axes."""
        return self if block_matrix else AdamW(betas=self.betas, eps=self.eps, weight_decay=self.weight_decay)


class Adafactor(OptimizerSettings):
    """Running squares kept as row and column means (Shazeer and Stern 2018, arXiv 1804.04235).

    As transformers' Adafactor with a fixed rate. MLX ignores a given rate unless ``relative_step`` is off.
    """

    name: Literal["adafactor"] = "adafactor"
    eps: tuple[Epsilon, Epsilon] = setting(
        (1e-30, 1e-3), "Epsilons", "Added to squared gradients; least size of a weight for the scaled rate."
    )
    clip_threshold: float = setting(1.0, "Clip threshold", "Largest root mean square of an update.", gt=0, le=1000)
    decay_rate: float = setting(-0.8, "Decay rate", "Exponent: memory of the squares is 1 − t^rate.", ge=-1, lt=0)
    beta1: Beta | None = setting(None, "Beta 1", "Memory of a running mean; empty keeps none, which saves memory.")
    weight_decay: float = setting(0.0, "Weight decay", _DECOUPLED, ge=0, le=1)
    scale_parameter: bool = setting(
        False, "Scale by weights", "Steps in proportion to the size of the weights. Not for adapters: B begins at zero."
    )
    relative_step: bool = setting(
        False, "Relative step", "Takes min(0.01, 1/√t) as its rate. The learning rate and its schedule are ignored."
    )
    warmup_init: bool = setting(False, "Slow start", "With a relative step: begins at one millionth of t.")

    @field_validator("warmup_init")
    @classmethod
    def _slow_start_of_what(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not info.data.get("relative_step"):
            raise ValueError("a slow start belongs to the relative step; with a fixed rate the schedule warms up")
        return value

    @property
    def follows_rate(self) -> bool:
        """Not with relative steps."""
        return not self.relative_step


class RmsProp(OptimizerSettings):
    """Tieleman and Hinton 2012 (lecture 6.5), as torch.optim.RMSprop. MLX's knows neither momentum nor centring."""

    name: Literal["rmsprop"] = "rmsprop"
    alpha: float = setting(0.99, "Alpha", "Memory of the running square.", ge=0, lt=1)
    eps: float = setting(1e-8, "Epsilon", _EPS, gt=0, le=1e-2)
    weight_decay: float = setting(0.0, "Weight decay", _L2, ge=0, le=1)
    momentum: float = setting(0.0, "Momentum", "Share of the last update that carries on.", ge=0, lt=1)
    centered: bool = setting(False, "Centred", "Divides by the spread of the gradient, not by its size.")


class Adagrad(OptimizerSettings):
    """Duchi et al. 2011 (JMLR 12), as torch.optim.Adagrad. MLX's has only the rate and another epsilon."""

    name: Literal["adagrad"] = "adagrad"
    lr_decay: float = setting(0.0, "Rate decay", "Divides the rate by 1 + decay · updates before.", ge=0, le=1)
    weight_decay: float = setting(0.0, "Weight decay", _L2, ge=0, le=1)
    initial_accumulator_value: float = setting(0.0, "First sum", "What the sum of squares begins with.", ge=0, le=1000)
    eps: float = setting(1e-10, "Epsilon", _EPS, gt=0, le=1e-2)


class AdaDelta(OptimizerSettings):
    """Zeiler 2012, arXiv 1212.5701, as torch.optim.Adadelta; its rate is near 1. MLX's has no weight decay."""

    name: Literal["adadelta"] = "adadelta"
    rho: float = setting(0.9, "Rho", "Memory of the running squares.", ge=0, lt=1)
    eps: float = setting(1e-6, "Epsilon", _EPS, gt=0, le=1e-2)
    weight_decay: float = setting(0.0, "Weight decay", _L2, ge=0, le=1)


_ROOM = "training.engine.optimizers"
OPTIMIZERS = Catalog(
    "optimizer",
    Row(AdamW, "AdamW", "The usual choice. Adapts the step of each weight.", f"{_ROOM}.adam:adamw"),
    Row(
        AdamW8Bit,
        "AdamW, 8 bits",
        "AdamW with a quarter of its memory. For full fine-tuning; adapters are small anyway.",
        f"{_ROOM}.eight_bit:adamw",
    ),
    Row(Adam, "Adam", "AdamW with an L2 penalty in place of its decay.", f"{_ROOM}.adam:Adam"),
    Row(Adam8Bit, "Adam, 8 bits", "Adam with a quarter of its memory.", f"{_ROOM}.eight_bit:adam"),
    Row(Adamax, "Adamax", "Adam for rare, large gradients.", f"{_ROOM}.adam:Adamax"),
    Row(NAdam, "NAdam", "Adam that looks ahead along its momentum.", f"{_ROOM}.adam:NAdam"),
    Row(RAdam, "RAdam", "Adam that needs no warm-up of the rate.", f"{_ROOM}.adam:RAdam"),
    Row(Lion, "Lion", "Half of AdamW's memory; use a 3 to 10 times lower rate.", f"{_ROOM}.plain:lion"),
    Row(Lion8Bit, "Lion, 8 bits", "Lion with a quarter of its memory.", f"{_ROOM}.eight_bit:lion"),
    Row(
        Muon,
        "Muon",
        "Steps of equal strength in all directions of a matrix. Half of AdamW's memory; at AdamW's rates.",
        f"{_ROOM}.muon:Muon",
    ),
    Row(
        Adafactor,
        "Adafactor",
        "Nearly no memory: one number for each row and column of a matrix.",
        f"{_ROOM}.plain:adafactor",
    ),
    Row(
        Sgd,
        "SGD",
        "Plain gradient descent with momentum. Least memory, needs a higher rate.",
        f"{_ROOM}.plain:Sgd",
    ),
    Row(RmsProp, "RMSprop", "Divides by the running size of the gradient.", f"{_ROOM}.plain:RmsProp"),
    Row(Adagrad, "Adagrad", "Steps shrink with all gradients so far.", f"{_ROOM}.plain:Adagrad"),
    Row(AdaDelta, "AdaDelta", "Finds its own step size; the rate is near 1.", f"{_ROOM}.plain:AdaDelta"),
)
