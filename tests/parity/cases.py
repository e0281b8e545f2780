"""Random small inputs of every loss, always the same: what is compared here and kept in ``tests/golden``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
PAIRS, LENGTH, VOCABULARY = 3, 5, 7


@dataclass(frozen=True, slots=True)
class Case:
    """One call: ``function`` names it in ``ours`` and ``theirs``; gradients are taken by the arrays in ``trained``."""

    name: str
    function: str
    settings: dict[str, Any]
    arrays: dict[str, Array]
    trained: tuple[str, ...]


def random(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def f32(array: Array) -> Array:
    return np.asarray(array, dtype=np.float32)


def mask(lengths: list[int], width: int) -> Array:
    """(rows, width), 1 at the last ``lengths`` places but for padding: answers of unequal length."""
    return f32([[1.0 if i < n else 0.0 for i in range(width)] for n in lengths])


def pairs(seed: int) -> dict[str, Array]:
    """Chosen rows, then rejected ones; log-probabilities of a model near its reference."""
    r = random(seed)
    counted = mask([5, 3, 4, 2, 5, 1], LENGTH)
    log_probs = -np.exp(r.normal(size=counted.shape))
    reference = ((log_probs + 0.3 * r.normal(size=counted.shape)) * counted).sum(1)
    return {"log_probs": f32(log_probs), "mask": counted, "reference": f32(reference)}


def scores(seed: int, rows: int = 2 * PAIRS, width: int = LENGTH + 1) -> dict[str, Array]:
    """Logits of whole rows; all answers are as long, so that a mean over tokens is one over rows."""
    r = random(seed)
    return {
        "logits": f32(1.5 * r.normal(size=(rows, width, VOCABULARY))),
        "ids": r.integers(0, VOCABULARY, (rows, width)),
    }


def answers(seed: int, *, off_policy: float = 0.5) -> dict[str, Array]:
    """Sampled answers with the log-probabilities of now, of the sampling policy and of the reference."""
    r = random(seed)
    counted = mask([5, 3, 4, 1], LENGTH)
    old = -np.exp(r.normal(size=counted.shape))
    return {
        "log_probs": f32(old + off_policy * r.normal(size=old.shape)),
        "old": f32(old),
        "reference": f32(old + 0.3 * r.normal(size=old.shape)),
        "mask": counted,
        "advantages": f32(r.normal(size=len(old))),
    }


def all_cases() -> Iterator[Case]:
    """Every case, in a fixed order."""
    yield from _preferences()
    yield from _single()
    yield from _policies()
    yield from _host()
    yield from _tokens()


def _named(function: str, settings: dict[str, Any]) -> str:
    return " ".join([function, *(f"{name}={value}" for name, value in settings.items())])


def _case(function: str, settings: dict[str, Any], arrays: dict[str, Array], *trained: str) -> Case:
    return Case(_named(function, settings), function, settings, arrays, trained)


def _preferences() -> Iterator[Case]:
    for i, loss_type in enumerate(("sigmoid", "hinge", "ipo", "sigmoid_norm", "apo_zero", "apo_down")):
        for beta in (0.1, 0.9):
            yield _case("dpo", {"loss_type": loss_type, "beta": beta}, pairs(10 + i), "log_probs")
    for loss_type in ("sigmoid", "robust"):
        settings = {"loss_type": loss_type, "beta": 0.5, "label_smoothing": 0.2}
        yield _case("dpo", settings, pairs(20), "log_probs")
    for i, loss_type in enumerate(("sigmoid", "hinge", "ipo", "simpo")):
        settings = {"loss_type": loss_type, "beta": 0.4, "cpo_alpha": 0.7}
        settings |= {"label_smoothing": 0.1} if loss_type in ("sigmoid", "simpo") else {}
        yield _case("cpo", settings, scores(30 + i), "logits")
    yield _case("simpo", {"beta": 2.0, "simpo_gamma": 1.2}, scores(35), "logits")
    for beta in (0.1, 1.0):
        yield _case("orpo", {"beta": beta}, scores(40), "logits")
    for margin in (False, True):
        r = random(50)
        arrays = {"rewards": f32(r.normal(size=2 * PAIRS))} | ({"margin": f32(r.random(PAIRS))} if margin else {})
        yield _case("reward", {"center_rewards_coefficient": 0.1 * margin}, arrays, "rewards")


def _single() -> Iterator[Case]:
    for i, loss_type in enumerate(("kto", "apo_zero_unpaired")):
        arrays = pairs(60 + i)
        r = random(70 + i)
        arrays |= {
            "label": f32([1, 0, 1, 1, 0, 0]),
            "other": f32(-2 + r.random(6)),  # log-probabilities of answers to other prompts
            "other_reference": f32(-2.5 + r.random(6)),
        }
        settings = {"loss_type": loss_type, "beta": 0.3, "desirable_weight": 1.5, "undesirable_weight": 0.8}
        yield _case("kto", settings, arrays, "log_probs")


def _policies() -> Iterator[Case]:
    for i, loss_type in enumerate(("grpo", "bnpo", "dr_grpo", "dapo")):
        for level in ("token", "sequence"):
            settings = {"loss_type": loss_type, "importance_sampling_level": level, "epsilon": 0.1}
            settings |= {"epsilon_high": 0.3, "beta": round(0.05 * i, 2), "max_completion_length": 8}
            yield _case("grpo", settings, answers(80 + i), "log_probs")
    yield _case("ppo_policy", {"cliprange": 0.2}, _with_tokens(answers(90)), "log_probs")
    r = random(95)
    values = f32(r.normal(size=(4, LENGTH)))
    arrays = {"values": values, "old": f32(values + 0.3 * r.normal(size=values.shape))}
    arrays |= {"returns": f32(r.normal(size=values.shape)), "mask": mask([5, 3, 4, 1], LENGTH)}
    yield _case("ppo_value", {"cliprange_value": 0.2}, arrays, "values")


def _with_tokens(arrays: dict[str, Array]) -> dict[str, Array]:
    return arrays | {"advantages": f32(random(91).normal(size=arrays["mask"].shape))}


def _host() -> Iterator[Case]:
    r = random(100)
    counted = mask([5, 3, 4, 1], LENGTH)
    arrays = {"rewards": f32(r.normal(size=counted.shape)) * counted, "mask": counted}
    arrays["values"] = f32(r.normal(size=counted.shape)) * counted
    for gamma, lam in ((1.0, 0.95), (0.9, 0.5)):
        yield _case("gae", {"gamma": gamma, "lam": lam}, arrays)
    for shift_mean in (True, False):
        yield _case("whitened", {"shift_mean": shift_mean}, {"rewards": arrays["rewards"], "mask": counted})
    old = answers(101)
    both = {"log_probs": old["log_probs"], "reference": old["reference"], "scores": f32(r.normal(size=4))}
    for estimator in ("k1", "k3"):
        yield _case("kl_penalised", {"kl_coef": 0.05, "kl_estimator": estimator}, both)
    for scale in ("group", "batch", "none"):
        yield _case("grouped", {"scale_rewards": scale}, {"rewards": f32(r.normal(size=12))})


def _tokens() -> Iterator[Case]:
    r = random(110)
    arrays = {"student": f32(2 * r.normal(size=(6, VOCABULARY))), "teacher": f32(2 * r.normal(size=(6, VOCABULARY)))}
    for kind, beta in (("forward_kl", 0.0), ("reverse_kl", 1.0), ("jsd", 0.5), ("jsd", 0.1)):
        for temperature in (1.0, 2.5):
            settings = {"kind": kind, "beta": beta, "temperature": temperature}
            yield _case("divergence", settings, arrays, "student")
    one = {"logits": scores(120)["logits"][0], "targets": scores(120)["ids"][0]}
    arrays |= {"targets": one["targets"]}
    for kind, beta in (("forward_kl", 0.0), ("reverse_kl", 1.0), ("jsd", 0.3)):
        for k, alpha, temperature in ((0, 0.4, 2.0), (3, 0.0, 1.0), (3, 0.4, 2.0)):
            settings = {"divergence": kind, "beta": beta, "temperature": temperature, "alpha": alpha, "top_k": k}
            yield _case("distillation", settings, arrays, "student")
    for label_smoothing, z_loss in ((0.0, 0.0), (0.1, 0.0), (0.0, 0.01), (0.1, 0.01)):
        yield _case("cross_entropy", {"label_smoothing": label_smoothing, "z_loss": z_loss}, one, "logits")
    yield _case("entropy", {}, {"logits": one["logits"]}, "logits")
