"""Distillation's losses against their formulas, with the teacher at hand and with its likeliest tokens."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from tests.engine.losses.test_per_target import (
    HIDDEN_STATES,
    OTHER_STATES,
    TARGETS,
    VOCABULARY,
    WEIGHTS,
    N,
    head,
    kl,
    log_softmax,
)
from training.engine.losses import per_target, teacher_loss
from training.engine.losses.teacher_loss import Aim, by_likeliest, likeliest, whole

KINDS: list[tuple[per_target.Divergence, float]] = [
    ("forward_kl", 0.5),
    ("reverse_kl", 0.5),
    ("jsd", 0.5),
    ("jsd", 0.1),
]
AIMS = [
    Aim(kind, temperature, beta, alpha) for kind, beta in KINDS for temperature in (1.0, 2.5) for alpha in (0.0, 0.3)
]


@pytest.fixture(params=[4, 1000], ids=lambda size: f"chunks of {size}")
def chunked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_loss, "chunk", lambda vocabulary: request.param)


def in_float64(aim: Aim, p: Any, q: Any, nats: Any) -> Any:
    """The loss of log-probabilities, in NumPy."""
    m = np.log(aim.beta * np.exp(p) + (1 - aim.beta) * np.exp(q))
    apart = {"forward_kl": kl(p, q), "reverse_kl": kl(q, p), "jsd": aim.beta * kl(p, m) + (1 - aim.beta) * kl(q, m)}
    return (1 - aim.alpha) * aim.temperature**2 * apart[aim.divergence] + aim.alpha * nats


def distributions(temperature: float) -> tuple[Any, Any, Any]:
    """Teacher and student at this temperature, and the student's cross-entropy."""
    student, teacher = (np.array(h.project(x), np.float64) for h, x in ((head(0.5), HIDDEN_STATES), LESSON))
    nats = -np.take_along_axis(log_softmax(student), np.array(TARGETS)[:, None], -1)[:, 0]
    return log_softmax(teacher / temperature), log_softmax(student / temperature), nats


LESSON = head(2.0), OTHER_STATES


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("aim", AIMS, ids=str)
def test_with_the_teacher_at_hand_it_is_its_formula(aim: Aim) -> None:
    made = whole(aim, (head(0.5), HIDDEN_STATES), LESSON, TARGETS)
    assert np.array(made[:, 0]) == pytest.approx(in_float64(aim, *distributions(aim.temperature)), rel=2e-4, abs=1e-5)


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("aim", AIMS, ids=str)
def test_of_buckets_it_is_the_same_formula(aim: Aim) -> None:
    p, q, nats = distributions(aim.temperature)
    ids, log_p = likeliest(*LESSON, 5, aim.temperature)
    order = np.argsort(-p, axis=-1)[:, :5]

    def merged(x: Any) -> Any:
        top = np.take_along_axis(x, order, -1)
        rest = np.log(np.exp(x).sum(-1, keepdims=True) - np.exp(top).sum(-1, keepdims=True))
        return np.concatenate([top, rest], -1)

    made = by_likeliest(aim, head(0.5), HIDDEN_STATES, (ids, log_p), TARGETS)
    assert {tuple(sorted(row)) for row in ids.tolist()} == {tuple(sorted(row)) for row in order.tolist()}
    assert np.array(made[:, 0]) == pytest.approx(in_float64(aim, merged(p), merged(q), nats), rel=2e-4, abs=1e-5)


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("aim", AIMS, ids=str)
@pytest.mark.parametrize("k", [1, 5, VOCABULARY])
def test_the_gradient_made_ahead_is_autodiffs(aim: Aim, k: int) -> None:
    lesson = likeliest(*LESSON, k, aim.temperature)

    def gradient(frozen: bool) -> mx.array:
        part = head(0.5, frozen=frozen)
        return mx.grad(lambda h: mx.sum(WEIGHTS * by_likeliest(aim, part, h, lesson, TARGETS)[:, 0]))(HIDDEN_STATES)

    ahead, plain = gradient(True), gradient(False)
    assert mx.abs(ahead - plain).max().item() <= 3e-5 * mx.abs(plain).max().item()


@pytest.mark.parametrize("aim", AIMS, ids=str)
def test_with_all_tokens_it_is_the_whole(aim: Aim) -> None:
    student = head(0.5)
    lesson = likeliest(*LESSON, VOCABULARY, aim.temperature)

    def gradient(loss: Any) -> Any:
        return mx.value_and_grad(lambda h: mx.sum(loss(h)[:, 0]))(HIDDEN_STATES)

    one = gradient(lambda h: whole(aim, (student, h), LESSON, TARGETS))
    other = gradient(lambda h: by_likeliest(aim, student, h, lesson, TARGETS))
    assert one[0].item() == pytest.approx(other[0].item(), rel=1e-4)
    assert mx.abs(one[1] - other[1]).max().item() <= 1e-4 * mx.abs(one[1]).max().item()


def test_by_hand() -> None:
    """Two tokens and a rest: p = (½, ¼ | ¼), q = (¼, ¼ | ½): ½ ln 2 − ¼ ln 2."""
    log_p = mx.log(mx.array([[0.5, 0.25, 0.25]]))
    q = teacher_loss._buckets(mx.log(mx.array([[0.25, 0.25, 0.125, 0.375]])), mx.array([[0, 1]]))
    assert per_target.between("forward_kl", log_p, q, 0.5).item() == pytest.approx(0.25 * math.log(2))
    assert per_target.between("reverse_kl", log_p, q, 0.5).item() == pytest.approx(0.25 * math.log(2))


@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl", "jsd"])
def test_more_buckets_tell_more(kind: per_target.Divergence) -> None:
    values = [
        mx.sum(by_likeliest(Aim(kind), head(0.5), HIDDEN_STATES, likeliest(*LESSON, k, 1.0), TARGETS)[:, 0]).item()
        for k in (1, 3, 10, 30, VOCABULARY)
    ]
    assert values == sorted(values)


def test_a_certain_teacher_makes_no_nan() -> None:
    sure = head(300.0)
    for kind, _ in KINDS:
        for k in (1, 5, VOCABULARY):
            lesson = likeliest(sure, OTHER_STATES, k, 1.0)
            loss = lambda h: mx.sum(by_likeliest(Aim(kind, alpha=0.1), sure, h, lesson, TARGETS)[:, 0])  # noqa: B023
            value, gradient = mx.value_and_grad(loss)(HIDDEN_STATES)
            assert math.isfinite(value.item()) and mx.all(mx.isfinite(gradient)).item(), (kind, k)


def test_a_larger_vocabulary_is_cut_to_the_common_one() -> None:
    cut = head(0.5).within(40)
    assert cut.matrix is not None and cut.matrix.vocabulary == 40
    assert mx.array_equal(cut.project(HIDDEN_STATES), head(0.5).project(HIDDEN_STATES)[:, :40])
    foreign = head(0.5, frozen=False).within(40)
    assert foreign.project(HIDDEN_STATES).shape == (N, 40)
