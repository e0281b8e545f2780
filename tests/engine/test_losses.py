"""The loss against its formula, and what must not change it."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from training.engine.losses import next_token

LOGITS = mx.random.normal((2, 3, 7), key=mx.random.key(1))
TARGETS = mx.array([[1, 2, 3], [4, 5, 6]])
TRAINED = mx.array([[1, 0, 1], [0, 1, 1]])


def test_is_the_sum_of_minus_log_p_over_trained_targets() -> None:
    logits = np.array(LOGITS, dtype=np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    keep = np.array(TRAINED) > 0
    expected = -np.take_along_axis(log_p, np.array(TARGETS)[..., None], -1)[..., 0][keep].sum()
    assert next_token(LOGITS, TARGETS, TRAINED).item() == pytest.approx(expected, rel=1e-6)


def test_a_constant_on_all_logits_changes_nothing() -> None:
    one, other = (next_token(x, TARGETS, TRAINED).item() for x in (LOGITS, LOGITS + 100.0))
    assert one == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize("label", [-100, -8, 7, 10**6])
def test_a_label_under_the_mask_is_harmless(label: int) -> None:
    targets = mx.where(TRAINED > 0, TARGETS, label)
    loss, gradient = mx.value_and_grad(next_token)(LOGITS, targets, TRAINED)
    expected, expected_gradient = mx.value_and_grad(next_token)(LOGITS, TARGETS, TRAINED)
    assert loss.item() == expected.item()
    assert mx.array_equal(gradient, expected_gradient)


def test_wholly_masked_rows_give_zero_and_no_nan() -> None:
    loss, gradient = mx.value_and_grad(next_token)(LOGITS, TARGETS, mx.zeros_like(TRAINED))
    assert (loss.item(), mx.abs(gradient).max().item()) == (0.0, 0.0)


def test_half_precision_is_summed_in_float32() -> None:
    logits = (LOGITS * 10).astype(mx.float16)
    loss = next_token(logits, TARGETS, TRAINED)
    assert loss.dtype == mx.float32
    assert loss.item() == pytest.approx(next_token(logits.astype(mx.float32), TARGETS, TRAINED).item(), rel=1e-6)
