"""Drawing tokens: filters as Hugging Face's, the same choice in both array libraries."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from training.engine.errors import ConfigError
from training.engine.generation.sampling import GREEDY, Sampling, choose

HOWS = [GREEDY, Sampling(), Sampling(0.5, top_k=3), Sampling(2.0, top_p=0.7), Sampling(top_k=9, top_p=0.8, min_p=0.1)]


def logits(size: int = 300, rows: int = 64) -> mx.array:
    return mx.random.normal((rows, size), key=mx.random.key(4)) * 2


def uniform(rows: int = 64) -> np.ndarray:
    return np.random.default_rng(0).random(rows, dtype=np.float32)


@pytest.mark.parametrize("how", HOWS)
def test_both_libraries_choose_the_same(how: Sampling) -> None:
    ids, logprobs = choose(logits(), uniform(), how, host=True)
    others, other = choose(logits(), uniform(), how, host=False)
    assert ids.tolist() == others.tolist()
    np.testing.assert_allclose(logprobs, np.array(other), atol=1e-5)


@pytest.mark.parametrize(
    ("how", "kept"),
    [
        (Sampling(top_k=2), {0, 1}),
        (Sampling(top_p=0.65), {0, 1}),  # 0.4 + 0.3 reach it
        (Sampling(top_p=0.75), {0, 1, 2}),
        (Sampling(top_p=0.01), {0}),
        (Sampling(min_p=0.6), {0, 1}),  # at least 0.24
        (Sampling(top_k=3, top_p=0.7), {0, 1}),  # of 0.9: 0.44 + 0.33
        (Sampling(), {0, 1, 2, 3}),
    ],
)
def test_filters_keep_the_likely(how: Sampling, kept: set[int]) -> None:
    scores = mx.log(mx.array([[0.4, 0.3, 0.2, 0.1]] * 500))
    ids, logprobs = choose(scores, uniform(500), how, host=True)
    assert set(ids.tolist()) == kept
    # Before the filters: what was left out still counts.
    np.testing.assert_allclose(np.exp(logprobs), np.array([0.4, 0.3, 0.2, 0.1])[ids], rtol=1e-5)


def test_unlikely_tokens_of_a_large_vocabulary_are_not_lost() -> None:
    """All of 100,000 equal tokens can be hit, the last ones as exactly as the first."""
    ids, _ = choose(mx.zeros((200, 100_000)), uniform(200), Sampling(), host=True)
    expected = np.floor(uniform(200).astype(np.float64) * 100_000)
    assert np.max(np.abs(ids - expected)) <= 1


@pytest.mark.parametrize("edge", [0.0, 1 - 2**-24])
@pytest.mark.parametrize("host", [True, False])
def test_the_edges_of_the_unit_interval_take_tokens_that_can_be(edge: float, host: bool) -> None:
    scores = mx.where(mx.arange(700) % 7 == 3, 0.0, -mx.inf)[None]
    ids, _ = choose(scores, np.array([edge], dtype=np.float32), Sampling(), host=host)
    assert int(ids[0]) == (3 if edge == 0 else 696)


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"top_p": 0}, {"min_p": 2}, {"top_k": -1}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Sampling(**wrong)  # type: ignore[arg-type]
