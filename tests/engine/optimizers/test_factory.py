"""Which rule, rate and decay each weight gets; schedules as tables; clipping as torch's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn
from mlx.utils import tree_flatten, tree_map

from tests.engine.optimizer_cases import alone
from tests.engine.optimizers import test_adam, test_muon, test_plain
from tests.fakes import families
from training.engine.catalog.adapters import Dora, Full, Lora
from training.engine.catalog.optimizers import OPTIMIZERS, Adafactor, AdamW, Sgd
from training.engine.catalog.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    CosineWithRestarts,
    Exponential,
    InverseSqrt,
    Linear,
    OneCycle,
    Polynomial,
    Step,
    Warmed,
    Wsd,
)
from training.engine.config.training import TrainSettings, check
from training.engine.errors import ConfigError
from training.engine.optimizers import factory
from training.engine.tuning import adapters


def test_every_optimizer_has_a_reference() -> None:
    cases = (*test_adam.CASES, *test_muon.CASES, *test_plain.CASES)
    assert {settings["name"] for settings, _ in cases} == set(OPTIMIZERS.names)


@pytest.fixture
def model() -> nn.Module:
    made: nn.Module = families.make("llama")
    adapters.apply(made, Lora(keys=["self_attn.q_proj", "mlp.up_proj"]))
    return made


def moved(model: nn.Module, settings: Any = None, **others: Any) -> dict[str, float]:
    """How far one plain update by gradients of 1 moves each trained weight, at a rate of 1."""
    optimizer = alone(settings or Sgd(momentum=0), 1.0, model, **others)
    before = dict(tree_flatten(model.trainable_parameters()))
    optimizer.update(model, tree_map(mx.ones_like, model.trainable_parameters()))
    after = dict(tree_flatten(model.trainable_parameters()))
    return {name: round((before[name] - after[name]).mean().item(), 4) for name in before}


def test_the_first_group_that_matches_decides(model: nn.Module) -> None:
    groups = ["*.0.*.lora_a lr=0.5", {"pattern": "*.lora_a", "lr_ratio": 0.25}, "*.mlp.* lr=2"]
    found = moved(model, parameter_groups=groups)
    for name, distance in found.items():
        expected = (
            0.5 if ".0." in name and "lora_a" in name else 0.25 if "lora_a" in name else 2 if "mlp" in name else 1
        )
        assert distance == pytest.approx(expected, abs=1e-3), name


def test_a_frozen_weight_is_not_trained_and_has_no_memory(model: nn.Module) -> None:
    optimizer = alone(AdamW(), 1.0, model, parameter_groups=["*.mlp.* freeze"])
    optimizer.init(model.trainable_parameters())
    names = [name for name, _ in tree_flatten(model.trainable_parameters())]
    assert names and not any("mlp" in name for name in names)
    assert not any("mlp" in name for name, _ in tree_flatten(optimizer.state))


@pytest.mark.parametrize(
    ("groups", "code", "hint"),
    [
        (["*.k_proj.* lr=2"], "no_match", "model.layers.*.mlp.up_proj.lora_a"),
        (["*.lora_a lr=2", "*.0.*.lora_a lr=3"], "covered", "move this one up"),
        (["* freeze"], "nothing_left", "fewer"),
    ],
)
def test_a_group_without_effect_is_an_error(model: nn.Module, groups: list[str], code: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        alone(AdamW(), 1.0, model, parameter_groups=groups)
    assert caught.value.code == f"parameter_groups.{code}"
    assert hint in caught.value.hint


def test_loraplus_is_pefts() -> None:
    """B and all that has one axis, here DoRA's lengths."""
    model: nn.Module = families.make("llama")
    adapters.apply(model, Dora())
    found = moved(model, adapter={"name": "dora", "loraplus_lr_ratio": 16})
    assert {name.rpartition(".")[2]: round(d, 2) for name, d in found.items()} == {"lora_a": 1, "lora_b": 16, "m": 16}


def decayed(model: nn.Module, **others: Any) -> set[str]:
    """The weights that a decay of a tenth moves beside a gradient of zero."""
    optimizer, before = alone(AdamW(weight_decay=0.1), 1.0, model, **others), dict(tree_flatten(model.parameters()))
    optimizer.update(model, tree_map(mx.zeros_like, model.trainable_parameters()))
    return {name for name, w in tree_flatten(model.parameters()) if not mx.array_equal(w, before[name])}


def test_weight_decay_leaves_norms_and_biases_alone_unless_asked() -> None:
    def whole() -> nn.Module:
        made: nn.Module = families.make("llama")
        adapters.apply(made, Full())
        return made

    usual, everything = decayed(whole()), decayed(whole(), decay_norms_and_biases=True)
    assert usual and not any("norm" in name for name in usual)
    assert {name for name in everything - usual if "norm" in name} == everything - usual != set()
    asked = decayed(whole(), parameter_groups=["*norm* weight_decay=0.5", "*.mlp.* weight_decay=0"])
    assert any("norm" in name for name in asked)
    assert not any("mlp" in name for name in asked)


def test_a_ratio_beside_relative_steps_is_refused() -> None:
    relative = Adafactor(relative_step=True).model_dump()
    for other in ({"parameter_groups": ["* lr=2"]}, {"adapter": {"name": "lora", "loraplus_lr_ratio": 4}}):
        with pytest.raises(ConfigError, match="relative_step ignores the rate"):
            check(TrainSettings, {"optimizer": relative, **other})


def table(settings: Warmed, total: int) -> list[float]:
    factor = factory.schedule(settings, total)
    return [round(factor(n), 4) for n in range(total)]


@pytest.mark.parametrize(
    ("settings", "total", "expected"),
    [
        (Constant(warmup_steps=3), 6, [0.25, 0.5, 0.75, 1, 1, 1]),
        (Linear(warmup_steps=1), 5, [0.5, 1, 0.75, 0.5, 0.25]),
        (Linear(warmup_steps=0, end_ratio=0.5), 4, [1, 0.875, 0.75, 0.625]),
        (Cosine(warmup_steps=1, end_ratio=0), 5, [0.5, 1, 0.8536, 0.5, 0.1464]),
        (Cosine(warmup_steps=0, end_ratio=0.1), 2, [1, 0.55]),
        (Step(warmup_steps=1, every=2, factor=0.1), 6, [0.5, 1, 1, 0.1, 0.1, 0.01]),
        (CosineWithRestarts(warmup_steps=0, cycles=2), 8, [1, 0.8536, 0.5, 0.1464] * 2),
        (Polynomial(warmup_steps=1, power=2), 5, [0.5, 1, 0.5625, 0.25, 0.0625]),
        (InverseSqrt(warmup_steps=2), 6, [0.3333, 0.6667, 1, 0.8165, 0.7071, 0.6325]),
        (InverseSqrt(warmup_steps=0, timescale=1, end_ratio=0.6), 4, [1, 0.7071, 0.6, 0.6]),
        (Exponential(warmup_steps=1, end_ratio=0.0625), 5, [0.5, 1, 0.5, 0.25, 0.125]),
        (Exponential(warmup_steps=0, gamma=0.5, end_ratio=0.2), 4, [1, 0.5, 0.25, 0.2]),
        (Wsd(warmup_steps=1, decay_ratio=0.5, decay_type="linear"), 8, [0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25]),
        (Wsd(warmup_steps=0, decay_ratio=0.4, end_ratio=0.5), 10, [1] * 7 + [0.75, 0.6464, 0.567]),
        (Wsd(warmup_steps=5, decay_ratio=1), 5, [0.1667, 0.3333, 0.5, 0.6667, 0.8333]),
        (OneCycle(warmup_steps=3, div_factor=5, final_div_factor=2), 5, [0.2, 0.6, 1, 0.55, 0.1]),
        (OneCycle(warmup_steps=0), 3, [1, 0.5, 0]),
        (OneCycle(), 1, [1]),
        (Wsd(), 1, [1]),
        (Constant(warmup_ratio=0.5), 4, [0.3333, 0.6667, 1, 1]),
        (Cosine(warmup_steps=100), 3, [0.25, 0.5, 0.75]),
        (Cosine(), 1, [1]),
    ],
)
def test_schedules_as_tables(settings: Warmed, total: int, expected: list[float]) -> None:
    assert table(settings, total) == expected


@pytest.mark.parametrize("name", sorted({*SCHEDULES.names} - {"one_cycle"}))
def test_every_schedule_moves_at_once_and_is_full_once(name: str) -> None:
    made = table(SCHEDULES[name].settings(name=name, warmup_steps=4), 40)
    assert made[0] == 0.2
    assert made[:5] == sorted(made[:5])
    assert made[4] == 1.0 == max(made)
    assert min(made) > 0


def test_an_end_rate_is_reached_after_the_last_update() -> None:
    for kind in (Linear, Cosine, CosineWithRestarts, Polynomial, Exponential, Wsd):
        assert factory.schedule(kind(end_ratio=0.25, warmup_steps=0), 8)(8) == pytest.approx(0.25)


def gradients() -> Iterator[tuple[float, dict[str, Any]]]:
    yield 5.0, {"a": mx.array([3.0]), "b": {"c": mx.array([[0.0, 4.0]])}}


def test_the_norm_is_that_of_all_gradients_together() -> None:
    for length, tree in gradients():
        assert factory.norm(tree).item() == length
    assert factory.norm({"a": mx.full((100,), 300.0, dtype=mx.float16)}).item() == pytest.approx(
        3000
    )  # 9e6 in float16: inf


@pytest.mark.parametrize(("longest", "factor"), [(1.0, 1 / (5 + 1e-6)), (10.0, 1.0), (0.0, 1.0)])
def test_clipping_is_torchs(longest: float, factor: float) -> None:
    for _, tree in gradients():
        clipped: Any = factory.clip(tree, factory.norm(tree), longest)
        assert clipped["b"]["c"][0, 1].item() == pytest.approx(4 * factor, rel=1e-6)


def test_clipping_keeps_the_number_format() -> None:
    tree = {"a": mx.full((4,), 3.0, dtype=mx.bfloat16)}
    clipped: Any = factory.clip(tree, factory.norm(tree), 1.0)
    assert clipped["a"].dtype == mx.bfloat16


def test_the_norm_does_not_depend_on_the_order_of_the_tree() -> None:
    random = np.random.default_rng(1)
    tree = {str(i): mx.array(random.normal(0, 10.0 ** (i % 5), 7).astype(np.float32)) for i in range(40)}
    assert factory.norm(tree).item() == factory.norm(dict(reversed(tree.items()))).item()
