"""The engine's losses on a case's arrays, by the function's name: scalars, of which ``loss`` is differentiated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn

from tests.parity.cases import Array, Case
from training.engine.losses import advantages, per_target, policy, preferences, teacher_loss
from training.engine.models.heads import Head, Matrix

Arrays = dict[str, mx.array]


def run(case: Case) -> tuple[dict[str, Array], dict[str, Array]]:
    """What ``case`` gives, and the gradients of its ``loss`` by name."""
    arrays = {name: mx.array(array) for name, array in case.arrays.items()}
    call = FUNCTIONS[case.function]
    if not case.trained:
        return {name: np.array(value) for name, value in call(arrays, **case.settings).items()}, {}

    def loss(trained: Arrays) -> tuple[mx.array, Arrays]:
        made = call(arrays | trained, **case.settings)
        return made["loss"], made

    (_, made), gradients = mx.value_and_grad(loss)({name: arrays[name] for name in case.trained})
    return (
        {name: np.array(value) for name, value in made.items()},
        {name: np.array(value) for name, value in gradients.items()},
    )


def on_axis(a: Arrays) -> tuple[mx.array, mx.array]:
    """The rows (targets,) and whether they count (targets,) of what was padded."""
    rows, width = a["mask"].shape
    return mx.repeat(mx.arange(rows), width), a["mask"].reshape(-1)


def summed(a: Arrays) -> tuple[mx.array, mx.array]:
    """Sums of the log-probabilities and numbers of tokens, (rows,) each."""
    row, counted = on_axis(a)
    kept = mx.where(counted > 0, a["log_probs"].reshape(-1), 0.0)
    return per_target.by_row(kept, row, len(a["mask"])), per_target.by_row(counted, row, len(a["mask"]))


def halves(both: mx.array) -> preferences.Pair:
    half = len(both) // 2
    return both[:half], both[half:]


def means(loss: mx.array, terms: Arrays) -> Arrays:
    return {"loss": mx.mean(loss)} | {name: mx.mean(value) for name, value in terms.items()}


def dpo(a: Arrays, **settings: Any) -> Arrays:
    sums, counts = summed(a)
    return means(*preferences.dpo(halves(sums), halves(a["reference"]), halves(counts), **settings))


def _from_logits(a: Arrays) -> tuple[preferences.Pair, preferences.Pair]:
    """Log-probabilities of all tokens but the first, summed by row."""
    rows, width, vocabulary = a["logits"].shape
    head = Head(lambda ids: ids, lambda logits: logits, None)
    each = per_target.log_probs(head, a["logits"][:, :-1].reshape(-1, vocabulary), a["ids"][:, 1:].reshape(-1))
    row = mx.repeat(mx.arange(rows), width - 1)
    return halves(per_target.by_row(each, row, rows)), halves(mx.full(rows, float(width - 1)))


def cpo(a: Arrays, **settings: Any) -> Arrays:
    return means(*preferences.cpo(*_from_logits(a), **settings))


def simpo(a: Arrays, **settings: Any) -> Arrays:
    return means(*preferences.simpo(*_from_logits(a), **settings))


def orpo(a: Arrays, *, beta: float) -> Arrays:
    return means(*preferences.orpo(*_from_logits(a), beta=beta))


def reward(a: Arrays, *, center_rewards_coefficient: float) -> Arrays:
    chosen, rejected = halves(a["rewards"])
    coefficient = center_rewards_coefficient
    loss, terms = preferences.reward(chosen, rejected, a.get("margin"), center_rewards_coefficient=coefficient)
    told = means(loss, terms)
    return {name: told[name] for name in ("loss", "reward_accuracy", "reward_margin")}


def kto(a: Arrays, **settings: Any) -> Arrays:
    sums, _ = summed(a)
    kl = preferences.kto_kl(a["other"], a["other_reference"])
    loss, terms = preferences.kto(sums, a["reference"], a["label"], kl, **settings)
    good = mx.sum(terms["desirable"])
    chosen, rejected = mx.sum(terms["reward_chosen"]) / good, mx.sum(terms["reward_rejected"]) / (len(loss) - good)
    return {"loss": mx.mean(loss), "reward_chosen": chosen, "reward_rejected": rejected, "kl": kl}


def grpo(a: Arrays, **settings: Any) -> Arrays:
    row, counted = on_axis(a)
    flat = (a[name].reshape(-1) for name in ("log_probs", "old"))
    reference = a["reference"].reshape(-1) if settings["beta"] else None
    each, terms = policy.grpo(*flat, a["advantages"], row, counted, reference=reference, **settings)
    units = len(a["mask"]) if policy.UNIT[settings["loss_type"]] == "example" else mx.sum(counted)
    told = {"loss": mx.sum(each) / units}
    if settings["importance_sampling_level"] == "token":
        told |= {name: mx.sum(value * counted) / mx.sum(counted) for name, value in terms.items()}
    return told


def ppo_policy(a: Arrays, *, cliprange: float) -> Arrays:
    counted = a["mask"].reshape(-1)
    flat = (a[name].reshape(-1) for name in ("log_probs", "old", "advantages"))
    each, terms = policy.ppo_policy(*flat, counted, cliprange=cliprange)
    return {
        "loss": mx.sum(each) / mx.sum(counted),
        "clip_fraction": mx.sum(terms["clip_fraction"]) / mx.sum(counted),
    }


def ppo_value(a: Arrays, *, cliprange_value: float) -> Arrays:
    counted = a["mask"].reshape(-1)
    flat = (a[name].reshape(-1) for name in ("values", "old", "returns"))
    each, terms = policy.ppo_value(*flat, counted, cliprange_value=cliprange_value)
    return {
        "loss": mx.sum(each) / mx.sum(counted),
        "value_clip_fraction": mx.sum(terms["value_clip_fraction"]) / mx.sum(counted),
    }


def _rows(a: Arrays, name: str) -> list[Array]:
    lengths = np.array(a["mask"]).sum(1).astype(int)
    return [row[:n] for row, n in zip(np.array(a[name]), lengths, strict=True)]


def gae(a: Arrays, **settings: float) -> dict[str, Any]:
    made = [advantages.gae(*both, **settings) for both in zip(_rows(a, "rewards"), _rows(a, "values"), strict=True)]
    return {
        "advantages": np.concatenate([ahead for ahead, _ in made]),
        "returns": np.concatenate([back for _, back in made]),
    }


def whitened(a: Arrays, *, shift_mean: bool) -> dict[str, Any]:
    return {"rewards": np.concatenate(advantages.whitened(_rows(a, "rewards"), shift_mean=shift_mean))}


def kl_penalised(a: Arrays, **settings: Any) -> dict[str, Any]:
    rows = zip(*(np.array(a[name]) for name in ("log_probs", "reference", "scores")), strict=True)
    made = [advantages.kl_penalised(own, other, float(score), **settings) for own, other, score in rows]
    return {"rewards": np.stack([rewards for rewards, _ in made]), "kl": np.array([kl for _, kl in made])}


def grouped(a: Arrays, *, scale_rewards: Any) -> dict[str, Any]:
    rewards = np.array(a["rewards"])
    return {"advantages": advantages.grouped(rewards, np.arange(len(rewards)) // 4, scale_rewards=scale_rewards)}


def frozen(logits: mx.array) -> Head:
    """A head of which the engine knows the matrix, so that its losses go chunk by chunk; it changes nothing."""
    linear = nn.Linear(logits.shape[-1], logits.shape[-1], bias=False)
    linear.weight = mx.eye(logits.shape[-1])
    matrix = Matrix(linear)
    return Head(lambda ids: ids, matrix.logits, matrix)


def divergence(a: Arrays, *, kind: Any, beta: float, temperature: float) -> Arrays:
    head = frozen(a["student"])
    both = (head, a["student"]), (head, a["teacher"])
    return {"loss": mx.mean(per_target.divergence(kind, *both, temperature=temperature, beta=beta))}


def distillation(a: Arrays, *, top_k: int, **settings: Any) -> Arrays:
    aim, head = teacher_loss.Aim(**settings), frozen(a["student"])
    if top_k:
        told = teacher_loss.likeliest(head, a["teacher"], top_k, aim.temperature)
        each = teacher_loss.by_likeliest(aim, head, a["student"], told, a["targets"])
    else:
        each = teacher_loss.whole(aim, (head, a["student"]), (head, a["teacher"]), a["targets"])
    return dict(zip(("loss", "divergence", "cross_entropy"), mx.mean(each, axis=0), strict=True))


def cross_entropy(a: Arrays, **settings: float) -> Arrays:
    return {"loss": mx.mean(per_target.cross_entropy(frozen(a["logits"]), a["logits"], a["targets"], **settings))}


def entropy(a: Arrays) -> Arrays:
    return {"loss": mx.mean(policy.entropy(a["logits"]))}


_ALL = (dpo, cpo, simpo, orpo, reward, kto, grpo, ppo_policy, ppo_value, gae, whitened, kl_penalised, grouped)
FUNCTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    f.__name__: f for f in (*_ALL, divergence, distillation, cross_entropy, entropy)
}
