"""Methods that learn from answers people liked or did not like. Names and defaults are TRL's."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import ValidationInfo, field_validator

from training.engine.catalog.method_settings import Group, MethodSettings
from training.engine.catalog.rows import setting

_BETA = "How firmly the model is held to the reference. Lower lets it move further; 0.1 is usual."
_COUNTS = "How much a difference between the answers counts."
_SMOOTHING = "Share of the pairs whose two answers may be the wrong way round."


class _Pairs(MethodSettings):
    group: ClassVar[Group] = "Preference"
    reads: ClassVar[tuple[str, ...]] = ("preference",)
    parts: ClassVar[int] = 2


class Dpo(_Pairs):
    """Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290) and its relatives."""

    name: Literal["dpo"] = "dpo"
    beta: float = setting(0.1, "Beta", _BETA, level="adjust", gt=0, le=100)
    loss_type: Literal["sigmoid", "hinge", "ipo", "robust", "sigmoid_norm", "apo_zero", "apo_down"] = setting(
        "sigmoid",
        "Loss",
        "'sigmoid' is DPO. 'ipo' does not drive clear pairs ever further apart. 'hinge' stops at a margin. 'robust' "
        "expects wrong labels. 'sigmoid_norm' judges per token. 'apo_zero' raises the chosen answer, 'apo_down' lowers "
        "both.",
        level="adjust",
    )
    label_smoothing: float = setting(
        0.0, "Label smoothing", f"{_SMOOTHING} With 'sigmoid' this is conservative DPO.", ge=0, lt=0.5
    )

    @field_validator("label_smoothing")
    @classmethod
    def _where_it_counts(cls, value: float, info: ValidationInfo) -> float:
        return _smoothed(value, info, ("sigmoid", "robust"))


class Cpo(_Pairs):
    """Contrastive preference optimisation (Xu et al. 2024, arXiv 2401.08417): no reference, imitation in its place."""

    name: Literal["cpo"] = "cpo"
    beta: float = setting(
        0.1, "Beta", "How much a difference between the answers counts.", level="adjust", gt=0, le=100
    )
    loss_type: Literal["sigmoid", "hinge", "ipo"] = setting("sigmoid", "Loss", "How a pair is compared, as in DPO.")
    label_smoothing: float = setting(0.0, "Label smoothing", _SMOOTHING, ge=0, lt=0.5)
    cpo_alpha: float = setting(1.0, "Imitation", "Weight of imitating the chosen answer.", level="adjust", ge=0, le=100)

    @field_validator("label_smoothing")
    @classmethod
    def _where_it_counts(cls, value: float, info: ValidationInfo) -> float:
        return _smoothed(value, info, ("sigmoid",))


class SimPo(_Pairs):
    """Simple preference optimisation (Meng et al. 2024, arXiv 2405.14734): judged per token, no reference."""

    name: Literal["simpo"] = "simpo"
    beta: float = setting(
        2.0, "Beta", "How much a difference between the answers counts.", level="adjust", gt=0, le=100
    )
    simpo_gamma: float = setting(
        0.5, "Margin", "By how much the chosen answer shall be ahead.", level="adjust", ge=0, le=100
    )
    label_smoothing: float = setting(0.0, "Label smoothing", _SMOOTHING, ge=0, lt=0.5)


class Orpo(_Pairs):
    """Odds ratio preference optimisation (Hong et al. 2024, arXiv 2403.07691): SFT and preference in one."""

    name: Literal["orpo"] = "orpo"
    beta: float = setting(
        0.1, "Beta", "Weight of the preference beside imitating the chosen answer.", level="adjust", gt=0, le=100
    )


class Kto(MethodSettings):
    """Kahneman–Tversky optimisation (Ethayarajh et al. 2024, arXiv 2402.01306): single answers, good or bad."""

    group: ClassVar[Group] = "Preference"
    reads: ClassVar[tuple[str, ...]] = ("kto",)

    name: Literal["kto"] = "kto"
    beta: float = setting(0.1, "Beta", _BETA, level="adjust", gt=0, le=100)
    loss_type: Literal["kto", "apo_zero_unpaired"] = setting(
        "kto", "Loss", "'apo_zero_unpaired' leaves out the estimate of how far the model has moved; a third faster."
    )
    desirable_weight: float = setting(
        1.0, "Weight of good answers", "Raise it where good answers are rare: good × weight ≈ bad.", ge=0, le=1000
    )
    undesirable_weight: float = setting(
        1.0, "Weight of bad answers", "Raise it where bad answers are rare.", ge=0, le=1000
    )

    @property
    def sequences(self) -> int:
        """With 'kto' each row brings along an answer that belongs to another one."""
        return 2 if self.loss_type == "kto" else 1


class RewardModel(_Pairs):
    """Scores an answer with one number (Bradley and Terry 1952; Ouyang et al. 2022, arXiv 2203.02155)."""

    group: ClassVar[Group] = "Reward"

    name: Literal["reward_model"] = "reward_model"
    center_rewards_coefficient: float = setting(
        0.0,
        "Centring",
        "Draws the scores of a pair to a sum of 0, so that different questions' scores compare; 0.01 is usual.",
        level="adjust",
        ge=0,
        le=10,
    )
    use_margin: bool = setting(
        True, "Margins", "Uses the margin of a row, where there is one: how much better the chosen answer is."
    )


def _smoothed(value: float, info: ValidationInfo, kinds: tuple[str, ...]) -> float:
    kind: Any = info.data.get("loss_type")
    if value and kind is not None and kind not in kinds:
        raise ValueError(f"the loss '{kind}' has no label smoothing; leave it at 0")
    return value
