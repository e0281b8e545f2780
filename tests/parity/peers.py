"""The tiny models in transformers and PEFT, and a plain training loop of PyTorch for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from tests.parity import theirs
from training.engine.rows.examples import Example
from training.engine.rows.masks import Encoded

RANK, SCALE = 4, 2.0
LEAVES = {
    "lora_a": "lora_A.default.weight",
    "lora_b": "lora_B.default.weight",
    "m": "lora_magnitude_vector.default.weight",
}
#: Adam divides a gradient by its own size, so one of the size of rounding errors would decide a whole step.
EPS = 1e-6
BETA = 0.3
Loss = Callable[[nn.Module, list[Example]], tuple[Tensor, int]]
"""The sum over the units of some rows, and how many units they are."""


def load(folder: Path, adapter: str, start: dict[str, mx.array]) -> tuple[nn.Module, dict[str, Tensor]]:
    """The model in ``folder`` with an ``adapter`` (lora, dora, full), and what is trained by our names.

    ``start`` is what training starts from, by the same names.
    """
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    if adapter != "full":
        linear = [name for name, module in model.model.layers[0].named_modules() if isinstance(module, nn.Linear)]
        names = [name.rpartition(".")[2] for name in linear]
        options: dict[str, Any] = {"use_dora": adapter == "dora", "lora_dropout": 0.0, "bias": "none"}
        model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=SCALE * RANK, target_modules=names, **options))
    parameters = dict(model.named_parameters())
    model.requires_grad_(False)
    trained = {name: parameters[_their(name, adapter)] for name in start}
    for name, parameter in trained.items():
        parameter.data = torch.tensor(_turned(name, start[name]).tolist())
        parameter.requires_grad_()
    return model, trained


def ours(trained: dict[str, Tensor]) -> dict[str, Any]:
    """Parameters of :func:`load` in our shapes."""
    return {name: _turned(name, parameter.detach()).numpy() for name, parameter in trained.items()}


def _their(name: str, adapter: str) -> str:
    if adapter == "full":
        return name
    path, _, leaf = name.rpartition(".")
    return f"base_model.model.{path}.{LEAVES[leaf]}"


def _turned(name: str, array: Any) -> Any:
    """PEFT keeps A and B the other way round."""
    return array.T if name.endswith(("lora_a", "lora_b")) else array


def train(
    model: nn.Module, trained: dict[str, Tensor], loss: Loss, updates: Iterator[list[list[Example]]], rate: float
) -> Iterator[float]:
    """The loss of each update: its micro-batches' sums divided by all their units, clipped at 1, AdamW."""
    decayed = [p for p in trained.values() if p.ndim > 1]
    rest = [p for p in trained.values() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, eps=EPS)
    for micro in updates:
        optimizer.zero_grad()
        made = [loss(model, rows) for rows in micro]
        units = sum(count for _, count in made)
        total = torch.stack([value for value, _ in made]).sum() / units
        total.backward()
        nn.utils.clip_grad_norm_(trained.values(), 1.0)
        optimizer.step()
        yield total.item()


def sft(model: nn.Module, rows: list[Example]) -> tuple[Tensor, int]:
    each, mask = _log_probs(model, [row.parts[0] for row in rows])
    return -(each * mask).sum(), int(mask.sum())


def dpo(reference: dict[int, Tensor]) -> Loss:
    """TRL's DPO with the log-probabilities that ``reference`` has for each row, by its identity."""

    def loss(model: nn.Module, rows: list[Example]) -> tuple[Tensor, int]:
        each, mask = _log_probs(model, [row.parts[i] for i in (0, 1) for row in rows])
        before = torch.stack([reference[id(row)] for row in rows]).T.reshape(-1)
        made = theirs.dpo({"log_probs": each, "mask": mask, "reference": before}, loss_type="sigmoid", beta=BETA)
        return made["loss"] * len(rows), len(rows)

    return loss


def orpo(model: nn.Module, rows: list[Example]) -> tuple[Tensor, int]:
    (chosen, rejected), nats = _means(model, rows)
    ratio = theirs.bare(theirs.ORPOTrainer, beta=BETA).odds_ratio_loss(chosen, rejected)[0]
    return (nats - ratio).sum(), len(rows)


def simpo(model: nn.Module, rows: list[Example]) -> tuple[Tensor, int]:
    settings = {"beta": BETA, "loss_type": "simpo", "simpo_gamma": 0.5, "label_smoothing": 0.0, "alpha": 0.0}
    return theirs.bare(theirs.CPOTrainer, **settings).cpo_loss(*_means(model, rows)[0])[0].sum(), len(rows)


def _means(model: nn.Module, rows: list[Example]) -> tuple[tuple[Tensor, ...], Tensor]:
    """Mean log-probabilities of the chosen and rejected answers, and the chosen ones' cross-entropy."""
    each, mask = _log_probs(model, [row.parts[i] for i in (0, 1) for row in rows])
    both = ((each * mask).sum(1) / mask.sum(1)).chunk(2)
    return both, -both[0]


@torch.no_grad()
def reference(model: nn.Module, rows: list[Example]) -> dict[int, Tensor]:
    """Log-probabilities of both answers of each row, (2,), under the model as it is."""
    found = {}
    for row in rows:
        each, mask = _log_probs(model, list(row.parts))
        found[id(row)] = (each * mask).sum(1)
    return found


def _log_probs(model: nn.Module, parts: list[Encoded]) -> tuple[Tensor, Tensor]:
    """Of each token but the first, and whether it is trained, (rows, width − 1), padded on the right."""
    width = max(len(part.ids) for part in parts)
    ids = torch.tensor([part.ids + [0] * (width - len(part.ids)) for part in parts])
    real = torch.tensor([[1] * len(part.ids) + [0] * (width - len(part.ids)) for part in parts])
    mask = torch.tensor([[float(t) for t in part.trained] + [0.0] * (width - len(part.ids)) for part in parts])
    logits = model(input_ids=ids, attention_mask=real, use_cache=False).logits
    each = torch.log_softmax(logits[:, :-1], -1).gather(-1, ids[:, 1:, None])[..., 0]
    return each, mask[:, 1:]
