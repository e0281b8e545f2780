"""Noise on embeddings: how much, on which tokens, and only in training."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn

from tests.engine import runs
from training.engine.config.training import TrainConfig, check
from training.engine.errors import ConfigError, Exit
from training.engine.machine.device import Device
from training.engine.models import loading, neftune
from training.engine.rows import segments
from training.engine.rows.segments import ByRow, BySlot, Cuts

CPU = Device("cpu", "test", 1 << 30, "", 1, True)
FLAT = mx.array([[5, 6, 7, 8, 9, 10]])
SLOTS = BySlot(mx.array([[0, 1, 7, 7], [2, 3, 4, 5]]), mx.array([0, 1, 4, 5, 6, 7, 3, 3]))


@pytest.mark.parametrize(
    ("ids", "cuts", "expected"),
    [
        (FLAT, ByRow((2, 4)), [[2, 2, 4, 4, 4, 4]]),
        (mx.array([[5, 6, 7, 8, 9, 10, 0, 0]]), SLOTS, [[2, 2, 4, 4, 4, 4, 2, 2]]),
        (mx.array([[5, 0, 7, 0], [5, 6, 7, 8]]), None, [[3, 3, 3, 3], [4, 4, 4, 4]]),
    ],
)
def test_every_token_knows_the_length_of_its_own_row(
    ids: mx.array, cuts: Cuts | None, expected: list[list[int]]
) -> None:
    with segments.cut(cuts):
        assert neftune.lengths(ids).tolist() == expected


def test_noise_is_uniform_within_its_bound_and_new_at_each_step(tiny_llama: Path) -> None:
    model = loading.load(tiny_llama, "auto", CPU).model
    embed = model.model.embed_tokens
    ids = mx.array([list(range(3, 203))])
    plain = embed(ids)
    neftune.add_noise(model, 5.0)
    assert mx.array_equal(embed(ids), plain)  # not in training
    model.train()
    one, two = np.array(embed(ids) - plain), np.array(embed(ids) - plain)
    bound = 5.0 / np.sqrt(200 * 64)
    assert np.abs(one).max() <= bound * 1.001
    assert one.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)
    assert abs(one.mean()) < 0.02 * bound
    assert not np.allclose(one, two)


def test_a_training_with_noise_goes_on_bit_for_bit(tiny_llama: Path, tmp_path: Path) -> None:
    config = runs.request(tiny_llama, runs.data(tmp_path / "d"), iters=6, neftune_noise_alpha=5, save_every=3)
    assert runs.run(tmp_path / "whole", config) == Exit.FINISHED
    assert runs.run(tmp_path / "two", config, halt=(3, 0)) == Exit.STOPPED
    assert runs.run(tmp_path / "two", config) == Exit.FINISHED
    runs.assert_same(tmp_path / "whole", tmp_path / "two", 6)
    quiet = {**config, "neftune_noise_alpha": 0}
    assert runs.run(tmp_path / "quiet", quiet) == Exit.FINISHED
    assert runs.points(tmp_path / "quiet")[1] != runs.points(tmp_path / "whole")[1]


def test_noise_and_kept_activations_exclude_each_other(tiny_llama: Path, tmp_path: Path) -> None:
    more = {"neftune_noise_alpha": 5, "cache_activations": True}
    with pytest.raises(ConfigError, match="NEFTune"):
        check(TrainConfig, runs.request(tiny_llama, tmp_path, **more))


def test_a_model_without_a_table_of_embeddings_is_named() -> None:
    with pytest.raises(ConfigError) as refused:
        neftune.add_noise(nn.Sequential(nn.Linear(2, 2)), 5.0)
    assert refused.value.problems[0].code == "neftune.no_embedding"


def test_a_compiled_step_draws_as_one_that_runs_as_it_reads(tiny_llama: Path) -> None:
    model = loading.load(tiny_llama, "auto", CPU).model
    segments.install(model)
    neftune.add_noise(model, 5.0)
    model.train()

    def step(ids: mx.array, slots: mx.array, back: mx.array) -> mx.array:
        with segments.cut(BySlot(slots, back)):
            return model(ids).sum()

    state = [model.state, mx.random.state]
    arguments = (mx.array([[5, 6, 7, 8, 9, 10, 0, 0]]), SLOTS.slots, SLOTS.back)
    mx.random.seed(1)
    plain = [step(*arguments).item() for _ in range(3)]
    mx.random.seed(1)
    compiled = mx.compile(step, inputs=state, outputs=state)
    assert [compiled(*arguments).item() for _ in range(3)] == pytest.approx(plain, rel=1e-4)
    assert len(set(plain)) == 3
