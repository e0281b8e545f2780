"""What is trained: small added matrices (adapters) or the model's own weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from training.engine.catalog.rows import Catalog, Row, Settings, setting


@dataclass(frozen=True)
class _Wrong:
    """Stands in for a scale that cannot be, so that the field reports it beside all other problems."""

    why: str


ModuleKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]{1,120}$")]


def _from_lines(value: Any) -> Any:
    """Lines such as ``self_attn.q_proj=32``, as a form sends them, beside a dictionary."""
    if not isinstance(value, list):
        return value
    pairs = [line.partition("=") if isinstance(line, str) else ("", "", "") for line in value]
    wrong = next((line for line, (_, sign, _) in zip(value, pairs, strict=True) if not sign), None)
    if wrong is not None:
        raise ValueError(f"'{str(wrong)[:80]}' is no line such as self_attn.q_proj=32")
    return {name.strip(): number.strip() for name, _, number in pairs}


Ranks = Annotated[dict[ModuleKey, Annotated[int, Field(ge=1, le=1024)]], BeforeValidator(_from_lines)]
Alphas = Annotated[dict[ModuleKey, Annotated[float, Field(gt=0, le=1_000_000)]], BeforeValidator(_from_lines)]


class _Layers(Settings):
    num_layers: int = setting(
        -1, "Layers", "How many blocks, counted from the top, are trained; -1 means all of them.", ge=-1, le=1000
    )

    @field_validator("num_layers")
    @classmethod
    def _some(cls, value: int) -> int:
        if value == 0:
            raise ValueError("0 layers would train nothing; -1 takes all of them")
        return value


class _LowRank(_Layers):
    rank: int = setting(
        16,
        "Rank",
        "How many new directions an adapter may learn. 8 to 16 is enough for style and format; raise it when the "
        "training loss stays high on plenty of data.",
        level="adjust",
        ge=1,
        le=1024,
    )
    scale: float = setting(
        2.0,
        "Scale",
        "Multiplier on the adapter's output, alpha / rank: alpha 32 at rank 16 is 2.",
        level="adjust",
        gt=0,
        le=1000,
    )
    dropout: float = setting(0.0, "Dropout", "Share of the adapter's inputs that is dropped in training.", ge=0, lt=1)
    keys: list[ModuleKey] | None = setting(
        None,
        "Modules",
        "Names of the linear layers inside a block, such as self_attn.q_proj; empty means all of them.",
        examples=["self_attn.q_proj"],
    )
    use_rslora: bool = setting(
        False,
        "rsLoRA",
        "Divides alpha by the square root of the rank in place of the rank, so that a high rank learns as fast as a "
        "low one.",
    )
    rank_pattern: Ranks = setting(
        {},
        "Ranks by module",
        "Another rank for modules whose name ends so, one in a line: self_attn.q_proj=32.",
        examples=["self_attn.q_proj=32"],
        max_length=200,
    )
    alpha_pattern: Alphas = setting(
        {},
        "Alphas by module",
        "Another alpha for modules whose name ends so, one in a line: self_attn.q_proj=64.",
        examples=["self_attn.q_proj=64"],
        max_length=200,
    )

    loraplus_lr_ratio: float = setting(
        1.0, "LoRA+ ratio", "Rate of B and of DoRA's lengths over that of A; the paper advises 16.", ge=1, le=1024
    )

    @model_validator(mode="before")
    @classmethod
    def _alpha(cls, data: Any) -> Any:
        """Accept PEFT's ``alpha`` in place of ``scale``; both together must agree."""
        if not isinstance(data, dict) or "alpha" not in data:
            return data
        rest = {key: value for key, value in data.items() if key != "alpha"}
        return {**rest, "scale": _scale(data["alpha"], rest, cls.model_fields["rank"].default)}

    @field_validator("scale", mode="before")
    @classmethod
    def _possible(cls, value: Any) -> Any:
        if isinstance(value, _Wrong):
            raise ValueError(value.why)
        return value

    @property
    def alpha(self) -> float:
        """``scale * rank``, the word PEFT uses."""
        return self.scale * self.rank

    def rank_of(self, path: str) -> int:
        """Rank of the adapter at the module ``path``."""
        return int(matched(self.rank_pattern, path, self.rank))

    def multiplier(self, path: str = "") -> float:
        """What the product of the adapter's matrices at ``path`` is multiplied with: alpha / rank, or for rsLoRA
        alpha / sqrt(rank) (Kalajdzievski 2023, arXiv 2312.03732). Without a path that of the other modules."""
        alpha, rank = matched(self.alpha_pattern, path, self.alpha), self.rank_of(path)
        return (
            self.scale
            if (alpha, rank, self.use_rslora) == (self.alpha, self.rank, False)
            else (multiplier(alpha, rank, use_rslora=self.use_rslora))
        )


def multiplier(alpha: float, rank: int, *, use_rslora: bool) -> float:
    """PEFT's scaling of an adapter."""
    return alpha / (math.sqrt(rank) if use_rslora else rank)


def matched(pattern: Mapping[str, float], path: str, default: float) -> float:
    """The value of the first name in ``pattern`` with which the module ``path`` ends, at a dot; as in PEFT."""
    return next((value for name, value in pattern.items() if f".{path}".endswith(f".{name}")), default)


def _scale(alpha: Any, rest: dict[str, Any], usual_rank: int) -> Any:
    """The scale that ``alpha`` means beside the other settings."""
    given = rest.get("scale")
    try:
        alpha, rank = float(alpha), int(rest.get("rank", usual_rank))
        scale = None if given is None else float(given)
    except (TypeError, ValueError, OverflowError):
        return _Wrong("alpha, scale and rank must be numbers")
    if not 0 < alpha < math.inf:
        return _Wrong(f"alpha must be a positive number (given: {alpha:g})")
    if rank < 1:
        return 1.0 if scale is None else scale  # the rank is reported by its own field
    if scale is not None and abs(scale - alpha / rank) > 1e-9:
        return _Wrong(f"scale {scale:g} and alpha {alpha:g} disagree: scale is alpha / rank = {alpha / rank:g}")
    return alpha / rank


class Lora(_LowRank):
    """W x + scale * B A x, with A and B trained and W frozen (Hu et al. 2021, arXiv 2106.09685).

    On a quantised base this is QLoRA (Dettmers et al. 2023, arXiv 2305.14314).
    """

    name: Literal["lora"] = "lora"


class Dora(_LowRank):
    """LoRA with a trained length for every output row (Liu et al. 2024, arXiv 2402.09353)."""

    name: Literal["dora"] = "dora"


class Full(_Layers):
    """All weights of the chosen blocks are trained. Needs the most memory; the base must not be quantised."""

    name: Literal["full"] = "full"


ADAPTERS = Catalog(
    "adapter",
    Row(
        Lora,
        "LoRA",
        "Trains small added matrices; QLoRA when the base is quantised.",
        "training.engine.tuning.adapters:apply_lora",
    ),
    Row(
        Dora,
        "DoRA",
        "LoRA that also learns each row's length. A little better, a little slower.",
        "training.engine.tuning.adapters:apply_dora",
    ),
    Row(
        Full,
        "Full fine-tuning",
        "Trains the model's own weights. Most memory.",
        "training.engine.tuning.adapters:apply_full",
    ),
)
