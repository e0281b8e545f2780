"""The same losses by other people's code: TRL's trainers where they hold the formula, PyTorch otherwise.

A trainer is made without its constructor, given the few fields that its loss reads, and a model that answers with
the case's arrays. What TRL no longer ships is written here after the named version.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor
from trl.experimental.cpo import CPOTrainer
from trl.experimental.gkd import GKDTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.experimental.server_distillation.server_distillation_trainer import _add_tail_bucket, _jsd_divergence
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.reward_trainer import RewardTrainer
from trl.trainer.utils import nanstd

from tests.parity.cases import Array, Case

Arrays = dict[str, Tensor]

#: What each function is compared with; the versions are added by ``table.py``.
REFERENCES = {
    "dpo": "TRL DPOTrainer; with label smoothing CPOTrainer",
    "cpo": "TRL CPOTrainer",
    "simpo": "TRL CPOTrainer",
    "orpo": "TRL ORPOTrainer",
    "reward": "TRL RewardTrainer",
    "kto": "TRL KTOTrainer",
    "grpo": "TRL GRPOTrainer",
    "ppo_policy": "TRL 0.29 PPOTrainer, written out",
    "ppo_value": "TRL 0.29 PPOTrainer, written out",
    "gae": "TRL 0.29 PPOTrainer, written out",
    "whitened": "TRL 0.29 PPOTrainer, written out",
    "kl_penalised": "TRL 0.29 PPOTrainer, written out",
    "grouped": "TRL GRPOTrainer, written out",
    "divergence": "TRL GKDTrainer",
    "distillation": "TRL GKDTrainer; of likeliest tokens ServerDistillationTrainer; PyTorch cross_entropy",
    "cross_entropy": "PyTorch cross_entropy, logsumexp",
    "entropy": "PyTorch Categorical.entropy",
}


def run(case: Case) -> tuple[dict[str, Array], dict[str, Array]]:
    """What ``case`` gives, and the gradients of its ``loss`` by name."""
    arrays = {name: torch.tensor(array) for name, array in case.arrays.items()}
    for name in case.trained:
        arrays[name].requires_grad_()
    made = FUNCTIONS[case.function](arrays, **case.settings)
    gradients = torch.autograd.grad(made["loss"], [arrays[name] for name in case.trained]) if case.trained else ()
    return (
        {name: torch.as_tensor(value).detach().numpy() for name, value in made.items()},
        {name: value.numpy() for name, value in zip(case.trained, gradients, strict=True)},
    )


def bare(trainer: type[Any], **fields: Any) -> Any:
    """A trainer of one process that has only ``fields``."""
    same = lambda value, **_: value
    made = trainer.__new__(trainer)
    made.accelerator = SimpleNamespace(
        device=torch.device("cpu"), num_processes=1, gather=same, gather_for_metrics=same, reduce=same
    )
    made.model = SimpleNamespace(training=True)
    made._metrics = {"train": defaultdict(list)}
    made._total_train_tokens, made._tp_size, made.aux_loss_enabled = 0, 1, False
    vars(made).update(fields)
    return made


def told(trainer: Any, loss: Tensor, **names: str) -> dict[str, Any]:
    return {"loss": loss} | {own: trainer._metrics["train"][name][0] for own, name in names.items()}


def answering(log_probs: Tensor) -> Callable[..., Any]:
    """A model with a fused head: it tells log-probabilities of the tokens behind the first."""
    none = torch.zeros_like(log_probs)
    return lambda **_: SimpleNamespace(log_probs=log_probs, entropy=none, mean_logits=none, is_top1=none > 0)


def tokens(mask: Tensor) -> Arrays:
    """The inputs of a trainer; what the tokens are does not matter to a model that answers by itself."""
    first = torch.zeros(len(mask), 1)
    completion = torch.cat([first, mask], dim=1).long()
    return {"input_ids": completion, "attention_mask": completion, "completion_mask": completion}


REWARDS = {
    "reward_chosen": "rewards/chosen",
    "reward_rejected": "rewards/rejected",
    "reward_accuracy": "rewards/accuracies",
    "reward_margin": "rewards/margins",
}


def dpo(a: Arrays, *, loss_type: str, beta: float, label_smoothing: float = 0.0) -> dict[str, Any]:
    masked = a["log_probs"] * a["mask"]
    chosen, rejected = a["reference"].chunk(2)
    if loss_type == "sigmoid" and label_smoothing:  # DPOTrainer has dropped it; CPO's formula is that of the ratios
        ratios = [now - before for now, before in zip(masked.sum(1).chunk(2), (chosen, rejected), strict=True)]
        one = bare(CPOTrainer, beta=beta, label_smoothing=label_smoothing, loss_type="sigmoid", alpha=0.0)
        return {"loss": one.cpo_loss(*ratios)[0].mean()}
    one = bare(
        DPOTrainer,
        loss_types=[loss_type],
        loss_weights=[1.0],
        beta=beta,
        label_smoothing=label_smoothing,
        f_divergence_type="reverse_kl",
        ld_alpha=None,
        use_weighting=False,
        precompute_ref_logps=True,
    )
    inputs = tokens(a["mask"]) | {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
    return told(one, one._compute_loss(answering(masked), inputs, False), **REWARDS)


def _halves_of(a: Arrays) -> Arrays:
    """Rows whose first token is the prompt and the rest the answer."""
    batch = {}
    for kind, ids in zip(("chosen", "rejected"), a["ids"].chunk(2), strict=True):
        labels = ids.clone()
        labels[:, 0] = -100
        batch |= {f"{kind}_input_ids": ids, f"{kind}_labels": labels, f"{kind}_attention_mask": torch.ones_like(ids)}
    return batch


def _by_metrics(one: Any, a: Arrays) -> dict[str, Any]:
    model = lambda *_, **__: SimpleNamespace(logits=a["logits"])
    loss, metrics = one.get_batch_loss_metrics(model, _halves_of(a))
    return {"loss": loss} | {own: metrics[name] for own, name in REWARDS.items()}


def cpo(a: Arrays, *, label_smoothing: float = 0.0, simpo_gamma: float = 0.5, **settings: Any) -> dict[str, Any]:
    fields = settings | {"label_smoothing": label_smoothing, "simpo_gamma": simpo_gamma}
    return _by_metrics(bare(CPOTrainer, is_encoder_decoder=False, pad_token_id=0, alpha=0.0, **fields), a)


def simpo(a: Arrays, **settings: Any) -> dict[str, Any]:
    return cpo(a, loss_type="simpo", cpo_alpha=0.0, **settings)


def orpo(a: Arrays, *, beta: float) -> dict[str, Any]:
    return _by_metrics(bare(ORPOTrainer, is_encoder_decoder=False, padding_value=0, beta=beta), a)


def reward(a: Arrays, *, center_rewards_coefficient: float) -> dict[str, Any]:
    args = SimpleNamespace(center_rewards_coefficient=center_rewards_coefficient or None)
    one = bare(RewardTrainer, args=args)
    inputs = {"attention_mask": torch.ones(6, 1)} | ({"margin": a["margin"]} if "margin" in a else {})
    loss = one.compute_loss(lambda **_: SimpleNamespace(logits=a["rewards"][:, None]), inputs)
    return told(one, loss, reward_accuracy="accuracy", reward_margin="margin")


def kto(a: Arrays, **settings: Any) -> dict[str, Any]:
    one = bare(KTOTrainer, calculate_KL=settings["loss_type"] == "kto", precompute_ref_logps=True, **settings)
    one._compute_kl_logps = lambda model, batch: a["other"]
    inputs = tokens(a["mask"]) | {"label": a["label"].bool(), "ref_logps": a["reference"]}
    inputs["ref_KL_logps"] = a["other_reference"]
    loss = one._compute_loss(answering(a["log_probs"] * a["mask"]), inputs, False)
    names = {"reward_chosen": "rewards/chosen", "reward_rejected": "rewards/rejected"}
    return told(one, loss, **names, **({"kl": "kl"} if one.calculate_KL else {}))


def grpo(a: Arrays, *, epsilon: float, **settings: Any) -> dict[str, Any]:
    args = SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1)
    one = bare(
        GRPOTrainer,
        args=args,
        epsilon_low=epsilon,
        current_gradient_accumulation_steps=1,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        _entropy_bonus_enabled=False,
        **settings,
    )
    none = torch.zeros_like(a["mask"])
    one._get_per_token_logps_and_entropies = lambda *_, **__: (a["log_probs"], none, None)
    ids = {"prompt_ids": none[:, :1], "prompt_mask": none[:, :1], "completion_ids": none, "completion_mask": a["mask"]}
    logs = {"old_per_token_logps": a["old"], "ref_per_token_logps": a["reference"], "advantages": a["advantages"]}
    loss = one._compute_loss(None, ids | logs | {"num_items_in_batch": a["mask"].sum()})
    if settings["importance_sampling_level"] == "sequence":
        return {"loss": loss}
    names = {"clip_low": "clip_ratio/low_mean", "clip_high": "clip_ratio/high_mean"}
    names |= {"clip_fraction": "clip_ratio/region_mean"} | ({"kl": "kl"} if settings["beta"] else {})
    return told(one, loss, **names)


# TRL 1.16 has no PPO any more. These are the lines of TRL 0.29.0, trl/experimental/ppo/ppo_trainer.py.


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum()


def ppo_policy(a: Arrays, *, cliprange: float) -> dict[str, Any]:
    ratio = torch.exp(a["log_probs"] - a["old"])
    pg_losses = -a["advantages"] * ratio
    pg_losses2 = -a["advantages"] * torch.clamp(ratio, 1.0 - cliprange, 1.0 + cliprange)
    loss = masked_mean(torch.max(pg_losses, pg_losses2), a["mask"])
    return {"loss": loss, "clip_fraction": masked_mean((pg_losses2 > pg_losses).float(), a["mask"])}


def ppo_value(a: Arrays, *, cliprange_value: float) -> dict[str, Any]:
    clipped = torch.clamp(a["values"], a["old"] - cliprange_value, a["old"] + cliprange_value)
    vf_losses1 = torch.square(a["values"] - a["returns"])
    vf_losses2 = torch.square(clipped - a["returns"])
    loss = 0.5 * masked_mean(torch.max(vf_losses1, vf_losses2), a["mask"])
    return {"loss": loss, "value_clip_fraction": masked_mean((vf_losses2 > vf_losses1).float(), a["mask"])}


def gae(a: Arrays, *, gamma: float, lam: float) -> dict[str, Any]:
    lastgaelam, advantages_reversed = 0, []
    gen_length = a["rewards"].shape[1]
    for t in reversed(range(gen_length)):
        nextvalues = a["values"][:, t + 1] if t < gen_length - 1 else 0.0
        delta = a["rewards"][:, t] + gamma * nextvalues - a["values"][:, t]
        lastgaelam = delta + gamma * lam * lastgaelam
        advantages_reversed.append(lastgaelam)
    advantages = torch.stack(advantages_reversed[::-1], axis=1)
    counted = a["mask"] > 0
    return {"advantages": advantages[counted], "returns": (advantages + a["values"])[counted]}


def whitened(a: Arrays, *, shift_mean: bool) -> dict[str, Any]:
    mask, values = a["mask"], a["rewards"]
    mean = masked_mean(values, mask)
    var = masked_mean((values - mean) ** 2, mask) * mask.sum() / (mask.sum() - 1)
    made = (values - mean) * torch.rsqrt(var + 1e-8)
    if not shift_mean:
        made += mean
    return {"rewards": made[mask > 0]}


def kl_penalised(a: Arrays, *, kl_coef: float, kl_estimator: str) -> dict[str, Any]:
    logr = a["reference"] - a["log_probs"]
    kl = -logr if kl_estimator == "k1" else (logr.exp() - 1) - logr
    rewards = -kl_coef * kl
    rewards[:, -1] += a["scores"]  # answers that fill the whole length: there TRL's place is the last token's, too
    return {"rewards": rewards, "kl": kl.sum(1)}


def grouped(a: Arrays, *, scale_rewards: str) -> dict[str, Any]:
    """After GRPOTrainer._generate_and_score_completions of TRL 1.16.0, with its nanstd; groups of four."""
    rewards = a["rewards"]
    mean = torch.nanmean(rewards.view(-1, 4), dim=1).repeat_interleave(4)
    std = nanstd(rewards.view(-1, 4), dim=1).repeat_interleave(4)
    if scale_rewards == "batch":
        std = nanstd(rewards).expand_as(rewards)
    advantages = rewards - mean
    return {"advantages": advantages if scale_rewards == "none" else advantages / (std + 1e-4)}


def divergence(a: Arrays, *, kind: str, beta: float, temperature: float) -> dict[str, Any]:
    del kind  # TRL's beta 0 is the forward KL, 1 the reverse one
    each = GKDTrainer.generalized_jsd_loss(a["student"], a["teacher"], None, beta, temperature, "none")
    return {"loss": each.sum(-1).mean()}


def distillation(a: Arrays, *, beta: float, temperature: float, alpha: float, top_k: int, **_: Any) -> dict[str, Any]:
    """TRL's divergence, whole or of the teacher's likeliest tokens and the rest, beside the cross-entropy."""
    if top_k:
        student, teacher = (torch.log_softmax(a[name] / temperature, -1) for name in ("student", "teacher"))
        likeliest = teacher.topk(top_k).indices
        both = [
            _add_tail_bucket(x.gather(-1, likeliest), torch.ones_like(likeliest).bool()) for x in (student, teacher)
        ]
        apart = _jsd_divergence(both[0][0], both[1][0], beta, both[0][1]).sum(-1).mean()
    else:
        apart = divergence(a, kind="", beta=beta, temperature=temperature)["loss"]
    nats = F.cross_entropy(a["student"], a["targets"])
    loss = (1 - alpha) * temperature**2 * apart + alpha * nats
    return {"loss": loss, "divergence": apart, "cross_entropy": nats}


def cross_entropy(a: Arrays, *, label_smoothing: float, z_loss: float) -> dict[str, Any]:
    plain = F.cross_entropy(a["logits"], a["targets"], label_smoothing=label_smoothing)
    return {"loss": plain + z_loss * torch.logsumexp(a["logits"], -1).square().mean()}


def entropy(a: Arrays) -> dict[str, Any]:
    return {"loss": torch.distributions.Categorical(logits=a["logits"]).entropy().mean()}


_ALL = (dpo, cpo, simpo, orpo, reward, kto, grpo, ppo_policy, ppo_value, gae, whitened, kl_penalised, grouped)
FUNCTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    f.__name__: f for f in (*_ALL, divergence, distillation, cross_entropy, entropy)
}
