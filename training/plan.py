"""What a training would cost, before it starts: updates, tokens, time, disk, and what differs from the last one.

Everything is counted or measured; what is not known is None and shown as unknown, never guessed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlxplatform.core.env import env
from registry.models import ModelVersion
from training.engine.config.training import TrainSettings
from training.models import DatasetVersion, Job, Metric
from training.states import JobState
from training.uploads import free_bytes

CURVE_POINTS = 120
HIGH_FULL_RATE = 5e-5
HIGH_LION_RATE = 5e-5
LOW_RATES = {"sgd": (1e-3, "SGD", "1e-2 is a usual start"), "adadelta": (1e-2, "AdaDelta", "1 is usual")}
STATE_BYTES = 12  # a trained weight, and two running means of it, in float32


@dataclass(frozen=True, slots=True)
class Change:
    """A setting that differs from the last training's."""

    path: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The figures of the plan card."""

    rows: int
    rows_per_update: int
    updates: int
    epochs: float
    tokens: int | None
    seconds: float | None
    disk: int | None
    free: int
    curve: tuple[float, ...]
    rate: float
    warnings: tuple[str, ...]
    changes: tuple[Change, ...]
    last: Job | None

    @property
    def points(self) -> str:
        """The learning rate over the updates as the points of a polyline in a box of 240 by 56."""
        most = max(self.curve, default=1.0) or 1.0
        last = max(1, len(self.curve) - 1)
        return " ".join(f"{i * 240 / last:.1f},{54 - 52 * value / most:.1f}" for i, value in enumerate(self.curve))


def rollout(settings: TrainSettings) -> tuple[int, int]:
    """Answers to each prompt, and passes over them; (1, 1) for a method that trains on the data's rows."""
    method: Any = settings.method
    passes = getattr(method, "num_ppo_epochs", getattr(method, "num_iterations", 1))
    return int(getattr(method, "num_generations", 1)), int(passes)


def micro_batches(settings: TrainSettings, rows: int) -> int:
    """Micro-batches of an epoch. The answers of a rollout are cut into micro-batches in each pass over them."""
    method: Any = settings.method
    if not method.online or not rows:
        return max(1, math.ceil(rows / settings.batch_size))
    samples, passes = rollout(settings)
    full, rest = divmod(rows, method.rollout_batch)
    prompts = [method.rollout_batch] * full + [rest] * (rest > 0)
    return int(passes * sum(math.ceil(samples * count / settings.batch_size) for count in prompts))


def updates_for(settings: TrainSettings, rows: int) -> tuple[int, float]:
    """Optimizer updates and passes over ``rows``; an epoch is whole micro-batches, as the engine counts it."""
    micro = micro_batches(settings, rows)
    if settings.iters is not None:
        return settings.iters, settings.iters * settings.grad_accumulation_steps / micro
    epochs = settings.epochs if settings.epochs is not None else 3.0
    return max(1, round(epochs * micro / settings.grad_accumulation_steps)), epochs


def make(settings: TrainSettings, model: ModelVersion | None, data: DatasetVersion | None, user: Any) -> Plan | None:
    """The plan of a training, or None while no data set is chosen."""
    if data is None:
        return None
    updates, epochs = updates_for(settings, data.rows_train)
    step = max(1, updates // CURVE_POINTS)
    schedule: Any = settings.lr_schedule  # one of the catalog's; all of them have a multiplier
    curve = tuple(schedule.multiplier(i, updates) for i in range(0, updates, step))
    last = Job.objects.visible_to(user).present().filter(kind=Job.Kind.TRAIN).first()
    disk = _disk(settings, model)
    rows_per_update = settings.batch_size * settings.grad_accumulation_steps
    seconds, tokens = _measured(_last_like(settings, model, data), updates, rows_per_update)
    return Plan(
        rows=data.rows_train * math.prod(rollout(settings)),
        rows_per_update=rows_per_update,
        updates=updates,
        epochs=epochs,
        tokens=tokens,
        seconds=seconds,
        disk=disk,
        free=free_bytes(),
        curve=curve,
        rate=settings.learning_rate,
        warnings=tuple(_warnings(settings, data, updates, disk)),
        changes=tuple(differences(last.settings, settings.model_dump(mode="json"))) if last else (),
        last=last,
    )


def _last_like(settings: TrainSettings, model: ModelVersion | None, data: DatasetVersion) -> Job | None:
    """The newest training that ended well with the same model, data, sequence length and kind of adapter."""
    past = Job.objects.filter(
        kind=Job.Kind.TRAIN,
        state=JobState.SUCCEEDED,
        model_version=model,
        dataset_version=data,
        settings__max_seq_length=settings.max_seq_length,
        settings__adapter__name=settings.adapter.name,
    )
    return past.exclude(step=0).order_by("-ended_at").first()


def _measured(past: Job | None, updates: int, rows: int) -> tuple[float | None, int | None]:
    """Seconds and trained tokens of ``updates`` updates of ``rows`` rows, from what ``past`` took for its own."""
    if past is None or not past.started_at or not past.ended_at:
        return None, None
    before = int(past.settings.get("batch_size", 4)) * int(past.settings.get("grad_accumulation_steps", 1))
    share = updates * rows / (past.step * max(1, before))
    counted = Metric.objects.filter(job=past, name="trained_tokens").values_list("last_value", flat=True).first()
    tokens = round(counted * share) if counted else None
    return (past.ended_at - past.started_at).total_seconds() * share, tokens


def _disk(settings: TrainSettings, model: ModelVersion | None) -> int | None:
    """Bytes of all kept checkpoints: weights and optimizer in float32, the best one and the one being written too."""
    if model is None:
        return None
    trained = model.parameters if settings.adapter.name == "full" else adapter_parameters(settings, model)
    return trained * STATE_BYTES * (settings.keep_checkpoints + 2) if trained else None


def adapter_parameters(settings: TrainSettings, model: ModelVersion) -> int | None:
    """Weights of a low-rank adapter on a Llama-like model, from the model's config.json; None if it is not known."""
    try:
        about = json.loads((model.folder / "config.json").read_text(encoding="utf-8"))
        hidden, blocks, inner = about["hidden_size"], about["num_hidden_layers"], about["intermediate_size"]
        heads = about["num_attention_heads"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    head = about.get("head_dim") or hidden // heads
    out, kv = heads * head, about.get("num_key_value_heads", heads) * head
    sizes = {
        "q_proj": hidden + out,
        "k_proj": hidden + kv,
        "v_proj": hidden + kv,
        "o_proj": out + hidden,
        "gate_proj": hidden + inner,
        "up_proj": hidden + inner,
        "down_proj": inner + hidden,
    }
    asked = settings.adapter.model_dump()
    keys = {key.split(".")[-1] for key in asked.get("keys") or sizes}
    layers = asked.get("num_layers", -1)
    return (
        asked.get("rank", 0) * sum(sizes.get(key, 0) for key in keys) * (blocks if layers < 0 else min(layers, blocks))
    )


def _rate_warnings(optimizer: Any, rate: float) -> list[str]:
    """Rates that hardly fit the optimizer."""
    if not optimizer.follows_rate:
        return ["Relative steps have a rate of their own: the learning rate and its schedule are ignored."]
    if optimizer.name in ("lion", "lion_8bit") and rate > HIGH_LION_RATE:
        return [f"A rate of {rate:g} is high for Lion; a third to a tenth of AdamW's is usual."]
    low, label, advice = LOW_RATES.get(optimizer.name, (0.0, "", ""))
    return [f"A rate of {rate:g} is low for {label}; {advice}."] if rate < low else []


def _warnings(settings: TrainSettings, data: DatasetVersion, updates: int, disk: int | None) -> list[str]:
    found = []
    if not data.rows_valid:
        found.append("This data set has no validation rows: you will not see whether it learns or memorises.")
        if settings.patience:
            found.append("Patience does nothing without validation rows.")
    if settings.ranks > settings.batch_size:
        found.append(
            f"{settings.ranks} ranks share micro-batches of {settings.batch_size}: some will have nothing to do."
        )
    if updates < 20:
        found.append(f"Only {updates} updates: enough to try the settings, hardly enough to learn.")
    if settings.adapter.name == "full" and settings.learning_rate > HIGH_FULL_RATE:
        found.append(f"A rate of {settings.learning_rate:g} is high for full fine-tuning; 1e-5 is usual.")
    found += _rate_warnings(settings.optimizer, settings.learning_rate)
    if disk is not None and disk > free_bytes():
        found.append(
            f"The checkpoints may not fit on the disk beyond its reserve of {env().reserve_gb:g} GB. "
            "Keep fewer, or free space."
        )
    return found


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names; a catalog choice stands under the name of its block."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}".removesuffix(".name")] = value
    return found


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """What ``after`` has otherwise than ``before``, in the order of ``after``; a block swapped whole is one change."""
    old, new = flat(before), flat(after)
    swapped = {key for key in new if isinstance(after.get(key), Mapping) and old.get(key) != new[key]}
    changes = []
    for key in [*new, *(key for key in old if key not in new)]:
        if key.split(".")[0] in swapped and key not in swapped:
            continue
        if old.get(key) != new.get(key):
            changes.append(Change(key, shown(old.get(key)), shown(new.get(key))))
    return changes


def shown(value: Any) -> str:
    """A value of a setting in a few characters."""
    if value is None or value == []:
        return "–"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    return str(value)
