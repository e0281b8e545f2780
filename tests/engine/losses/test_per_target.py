"""Losses against their formulas: whole or in chunks, with every option, and what must not change them."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn

from training.engine.losses import per_target
from training.engine.models.heads import Head, Matrix

N, HIDDEN, VOCABULARY = 23, 16, 50
KEYS = mx.random.split(mx.random.key(3), 5)
HIDDEN_STATES = mx.random.normal((N, HIDDEN), key=KEYS[0])
OTHER_STATES = mx.random.normal((N, HIDDEN), key=KEYS[1])
TARGETS = mx.random.randint(0, VOCABULARY, (N,), key=KEYS[2])
WEIGHTS = mx.random.normal((N,), key=KEYS[3])


def head(scale: float = 1.0, *, frozen: bool = True) -> Head:
    linear = nn.Linear(HIDDEN, VOCABULARY)
    linear.weight = scale * mx.random.normal((VOCABULARY, HIDDEN), key=KEYS[4])
    linear.bias = mx.arange(VOCABULARY) / 100
    matrix = Matrix(linear)
    return Head(lambda ids: ids, matrix.logits, matrix if frozen else None)


@pytest.fixture(params=[4, 7, 1000], ids=lambda size: f"chunks of {size}")
def chunked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(per_target, "chunk", lambda vocabulary: request.param)


def log_softmax(logits: Any) -> Any:
    logits = np.array(logits, dtype=np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


OPTIONS = [{}, {"label_smoothing": 0.1}, {"z_loss": 1e-2}, {"label_smoothing": 0.3, "z_loss": 1e-1}]


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_cross_entropy_is_its_formula(options: dict[str, float]) -> None:
    smoothing, z_loss = options.get("label_smoothing", 0.0), options.get("z_loss", 0.0)
    logits = np.array(head().project(HIDDEN_STATES), dtype=np.float64)
    log_p = log_softmax(logits)
    lse = (logits - log_p)[:, 0]
    picked = np.take_along_axis(log_p, np.array(TARGETS)[:, None], -1)[:, 0]
    expected = -(1 - smoothing) * picked - smoothing * log_p.mean(-1) + z_loss * lse**2
    made = per_target.cross_entropy(head(), HIDDEN_STATES, TARGETS, **options)
    assert made.dtype == mx.float32
    assert np.array(made) == pytest.approx(expected, rel=2e-6)


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_gradient_made_ahead_is_autodiffs(options: dict[str, float]) -> None:
    def weighted(frozen: bool) -> Any:
        part = head(frozen=frozen)
        # Weights of both signs per target, as a preference method has them.
        return lambda h: mx.sum(WEIGHTS * per_target.cross_entropy(part, h, TARGETS, **options))

    ahead, plain = (mx.grad(weighted(frozen))(HIDDEN_STATES) for frozen in (True, False))
    assert mx.abs(ahead - plain).max().item() <= 2e-6 * mx.abs(plain).max().item()


def test_the_gradient_reaches_a_trained_head() -> None:
    linear = nn.Linear(HIDDEN, VOCABULARY)

    def loss(module: nn.Module) -> mx.array:
        return per_target.cross_entropy(Head(lambda x: x, module, None), HIDDEN_STATES, TARGETS).sum()

    gradient = nn.value_and_grad(linear, loss)(linear)[1]["weight"]
    assert mx.abs(gradient).max().item() > 0.1


@pytest.mark.parametrize("bits", [4, 8])
def test_a_packed_head_gives_the_gradient_of_its_values(bits: int) -> None:
    packed = nn.QuantizedLinear.from_linear(nn.Linear(64, VOCABULARY, bias=False), 32, bits)
    packed.freeze()
    plain = nn.Linear(64, VOCABULARY, bias=False)
    plain.weight = Matrix(packed).rows(mx.arange(VOCABULARY))
    hidden = mx.random.normal((N, 64))

    def gradient(module: nn.Module) -> mx.array:
        part = Head(lambda ids: ids, module, Matrix(module))
        return mx.grad(lambda h: per_target.cross_entropy(part, h, TARGETS, label_smoothing=0.1).sum())(hidden)

    assert mx.allclose(gradient(packed), gradient(plain), atol=1e-4)


def test_log_probs_by_row_are_those_of_the_sequences() -> None:
    rows = mx.array([0] * 10 + [2] * 13)
    log_p = log_softmax(head().project(HIDDEN_STATES))
    picked = np.take_along_axis(log_p, np.array(TARGETS)[:, None], -1)[:, 0]
    made = per_target.by_row(per_target.log_probs(head(), HIDDEN_STATES, TARGETS), rows, 3)
    assert np.array(made) == pytest.approx([picked[:10].sum(), 0, picked[10:].sum()], rel=1e-5)


def kl(p: Any, q: Any) -> Any:
    return (np.exp(p) * (p - q)).sum(-1)


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize(("kind", "beta"), [("forward_kl", 0.5), ("reverse_kl", 0.5), ("jsd", 0.5), ("jsd", 0.1)])
def test_divergences_are_their_formulas(kind: per_target.Divergence, beta: float, temperature: float) -> None:
    student, teacher = (head(0.5), HIDDEN_STATES), (head(2.0), OTHER_STATES)
    q, p = (log_softmax(np.array(h.project(x), np.float64) / temperature) for h, x in (student, teacher))
    m = np.log(beta * np.exp(p) + (1 - beta) * np.exp(q))
    expected = {"forward_kl": kl(p, q), "reverse_kl": kl(q, p), "jsd": beta * kl(p, m) + (1 - beta) * kl(q, m)}
    made = per_target.divergence(kind, student, teacher, temperature=temperature, beta=beta)
    assert np.array(made) == pytest.approx(expected[kind], rel=2e-4, abs=1e-6)


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl", "jsd"])
def test_a_divergences_gradient_is_autodiffs(kind: per_target.Divergence) -> None:
    def gradient(frozen: bool) -> mx.array:
        part, teacher = head(0.5, frozen=frozen), (head(2.0), OTHER_STATES)
        return mx.grad(lambda h: mx.sum(WEIGHTS * per_target.divergence(kind, (part, h), teacher)))(HIDDEN_STATES)

    ahead, plain = gradient(True), gradient(False)
    assert mx.abs(ahead - plain).max().item() <= 2e-5 * mx.abs(plain).max().item()


def test_of_a_distribution_to_itself_there_is_none() -> None:
    same = (head(), HIDDEN_STATES)
    for kind in ("forward_kl", "reverse_kl", "jsd"):
        assert mx.abs(per_target.divergence(kind, same, same)).max().item() < 1e-6


def test_half_precision_is_computed_in_float32() -> None:
    made = per_target.cross_entropy(head(), HIDDEN_STATES.astype(mx.float16), TARGETS)
    assert made.dtype == mx.float32
    assert np.array(made) == pytest.approx(np.array(per_target.cross_entropy(head(), HIDDEN_STATES, TARGETS)), rel=5e-3)


def test_chunks_need_less_memory_than_the_whole() -> None:
    hidden, targets = mx.random.normal((4096, 16)), mx.zeros(4096, dtype=mx.int32)
    linear = nn.Linear(16, 8192, bias=False)
    linear.freeze()
    mx.eval(hidden, targets, linear.parameters())

    def peak(matrix: Matrix | None) -> int:
        part = Head(lambda ids: ids, Matrix(linear).logits, matrix)
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        mx.eval(mx.grad(lambda h: per_target.cross_entropy(part, h, targets).sum())(hidden))
        return mx.get_peak_memory() - before

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(per_target, "chunk", lambda vocabulary: 64)
        assert peak(Matrix(linear)) < 0.25 * peak(None)
