"""What a training should begin with, and why: rules of thumb over facts. No file, database or engine is asked.

Each setting comes with its reason in one sentence, so that a person can disagree. docs/methods.md,
"Auto-configuration", lists the rules; what happens when it does not fit is in ``ladder.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from training.engine.catalog.method_settings import MethodSettings
from training.engine.catalog.methods import METHODS
from training.engine.config.training import TrainSettings, check

ROOMY = 24 << 30  # bytes of a GPU
BUDGETS = (2048, 4096, 8192, 16384)  # tokens of a micro-batch
#: Share of the rate of supervised fine-tuning. A preference is learnt with less than an answer, a reward with least.
METHOD_RATES = {
    "cpt": 0.5,
    "reward_model": 0.5,
    "dpo": 0.25,
    "kto": 0.25,
    "orpo": 0.25,
    "cpo": 0.25,
    "gkd": 0.5,
    "simpo": 0.1,
    "ppo": 0.05,
    "grpo": 0.05,
}
#: Rate of LoRA for supervised fine-tuning, up to so many weights.
RATES = ((1_000_000_000, 2e-4), (10_000_000_000, 1e-4), (math.inf, 5e-5))
#: Rows of an update, and rank, up to so many rows.
UPDATES = ((500, 8), (5_000, 16), (50_000, 32), (math.inf, 64))
RANKS = ((1_000, 8), (10_000, 16), (100_000, 32), (math.inf, 64))
EPOCHS = ((1_000, 3.0), (10_000, 2.0), (math.inf, 1.0))
STEP_TOKENS, SHORTEST = 64, 128  # sequence lengths are multiples of the one, and at least the other
LONG_DAY = 12.0  # hours
FLOPS_OF_CORE = 2.5e10  # what one core of a CPU was seen to do in a whole step
COMPUTED = 6  # floating-point operations for each weight and token, forward and backward


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What counts of a model version."""

    parameters: int
    layers: int
    context: int
    """Tokens it can read; 0: not known."""
    quantized: bool = False
    vocabulary: int = 0


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What counts of a data set version."""

    data_format: str
    rows: int
    valid_rows: int = 0
    tokens: int = 0
    """Of all sequences of the training rows; 0: not known."""
    histogram: tuple[tuple[int | None, int], ...] = ()
    """(most tokens, sequences), the last one without an end; empty: not known."""
    longest: int = 0
    good_share: float | None = None
    """Share of judged answers that are good."""
    has_answers: bool = False
    """Whether every prompt has a reference answer."""

    @property
    def sequences(self) -> int:
        return sum(count for _, count in self.histogram)

    def covering(self, share: float) -> int:
        """A length that so many of the sequences do not exceed; 0: not known."""
        seen = 0
        for edge, count in self.histogram:
            seen += count
            if seen >= share * self.sequences:
                return min(edge or self.longest, self.longest)
        return self.longest

    def cut_share(self, length: int) -> float:
        """Share of the sequences that may be longer, at most."""
        kept = sum(count for edge, count in self.histogram if edge is not None and edge <= length)
        return 1 - kept / self.sequences if self.sequences and length < self.longest else 0.0


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What counts of the machine."""

    backend: Literal["cpu", "metal", "cuda"]
    cores: int
    memory: int
    """Bytes that a training may hold."""

    @property
    def is_cpu(self) -> bool:
        return self.backend == "cpu"


@dataclass(frozen=True, slots=True)
class Reason:
    """One proposed setting."""

    path: str
    """Dotted, as in the form: ``adapter.rank``. A block's bare name stands for its row."""
    value: Any
    why: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """Settings with their reasons, and what else a person should know."""

    reasons: tuple[Reason, ...]
    warnings: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """As the API takes them: nested, what is not proposed left out."""
        return nested({reason.path: reason.value for reason in self.reasons})

    @property
    def method(self) -> str:
        return str(next(reason.value for reason in self.reasons if reason.path == "method"))


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """``{"adapter": "lora", "adapter.rank": 8}`` as ``{"adapter": {"name": "lora", "rank": 8}}``."""
    made: dict[str, Any] = {}
    blocks = {path.split(".")[0] for path in values if "." in path}
    for path, value in values.items():
        block, _, key = path.partition(".")
        if block in blocks:
            made.setdefault(block, {})[key or "name"] = value
        else:
            made[path] = value
    return made


def propose(method: str | None, model: ModelFacts, data: DataFacts, machine: MachineFacts) -> Proposal:
    """Settings for ``method``, or for the one that the data's format suggests. Always valid settings."""
    chosen = Reason("method", method, "You chose it.") if method else method_for(data)
    name = str(chosen.value)
    online = _settings_of(name).online
    reasons = [
        chosen,
        *_of_method(name, data, machine),
        *_adapter(name, model, data, online=online),
        _rate(name, model),
        *_duration(name, data, online=online),
        *_batch(name, data, machine, online=online),
        _length(name, model, data, machine, online=online),
        *_schedule(online=online),
        _precision(machine),
        Reason("grad_checkpoint", False, "It fits without, as far as is known; computing twice would cost time."),
    ]
    if online:
        reasons.append(_rollout(name, {reason.path: reason.value for reason in reasons}))
    proposal = Proposal(tuple(reasons))
    settings = check(TrainSettings, proposal.settings)
    return Proposal(proposal.reasons, tuple(_warnings(settings, model, data, machine)))


def _settings_of(name: str) -> MethodSettings:
    found: MethodSettings = check(TrainSettings, {"method": name}).method
    return found


def method_for(data: DataFacts) -> Reason:
    """The method that rows of this format are made for."""
    by_format = {
        "text": ("cpt", "The rows are plain text: the model reads on."),
        "preference": ("dpo", "Each row holds a better and a worse answer; DPO is the steadiest method for pairs."),
        "kto": ("kto", "Each row holds one answer that is marked as good or bad."),
        "prompts": ("grpo", "The rows are prompts alone: the model answers, and what earns more is learnt."),
    }
    name, why = by_format.get(data.data_format, ("sft", "The rows show how to answer: the model learns by example."))
    return Reason("method", name, why)


def _first(table: tuple[tuple[float, Any], ...], value: float) -> Any:
    return next(found for most, found in table if value < most)


def _of_method(name: str, data: DataFacts, machine: MachineFacts) -> Iterator[Reason]:
    if name == "sft":
        yield Reason("method.train_on", "assistant", "The loss counts every answer and none of the questions.")
    elif name == "distillation":
        why = "The teacher's 64 likeliest tokens hold nearly all it may say; kept on the disk, it can leave memory."
        yield Reason("method.top_k", 64, why)
    elif name in {"dpo", "kto"}:
        yield Reason("method.beta", 0.1, "Holds the model near its start; the value of the papers.")
    elif name in {"orpo", "cpo"}:
        yield Reason("method.beta", 0.1, "The preference is a light weight beside imitation; the value of the paper.")
    elif name == "simpo":
        yield Reason("method.beta", 2.0, "Log-probs per token are small numbers, so beta is large; the paper's value.")
        yield Reason("method.simpo_gamma", 0.5, "The chosen answer shall be ahead by a small margin.")
    elif name == "reward_model":
        why = "Keeps the scores of different questions around 0, so that they can be compared."
        yield Reason("method.center_rewards_coefficient", 0.01, why)
    elif name in {"ppo", "grpo"}:
        yield from _policy(name, data)
    if _settings_of(name).online:
        longest = 64 if machine.is_cpu else 256
        why = "On a CPU most of the time goes into answers." if machine.is_cpu else "Room to answer."
        yield Reason("method.max_completion_length", longest, why)
    if name == "gkd" and data.data_format == "prompts" and not data.has_answers:
        yield Reason("method.lmbda", 1.0, "The data hold no answers, so the student writes all of them.")
    if name == "grpo":
        count = 4 if machine.is_cpu else 8
        yield Reason("method.num_generations", count, "Enough answers to a prompt to tell better from worse.")
    if name == "kto" and data.good_share is not None and 0 < data.good_share < 1:
        yield from _weights(data.good_share)


def _weights(good: float) -> Iterator[Reason]:
    """Weights so that good answers count 1 to 4/3 as much as bad ones (Ethayarajh et al. 2024, section 4.2)."""
    ratio = round((1 - good) / good, 2)
    if ratio > 1:
        yield Reason("method.desirable_weight", min(ratio, 1000.0), f"Only {good:.0%} of the answers are good ones.")
    elif ratio < 3 / 4:
        why = f"Only {1 - good:.0%} of the answers are bad ones."
        yield Reason("method.undesirable_weight", min(round(1 / max(ratio, 1e-3), 2), 1000.0), why)


def _policy(name: str, data: DataFacts) -> Iterator[Reason]:
    if data.has_answers:
        yield Reason("method.rewards", ["exact_answer"], "Every prompt has a reference answer to compare with.")
        yield Reason("method.reward_model_weight", 0.0, "The rule alone judges: no reward model is needed.")
    else:
        yield Reason("method.rewards", [], "Not every prompt has a reference answer, so no rule can compare.")
        yield Reason("method.reward_model_weight", 1.0, "A reward model judges the answers.")
    if name == "ppo":
        yield Reason("method.kl_coef", 0.05, "Each token pays for its distance from the start; the usual price.")
        yield Reason("method.num_ppo_epochs", 4, "A rollout is dear, so it is learnt from four times.")


def _adapter(name: str, model: ModelFacts, data: DataFacts, *, online: bool) -> Iterator[Reason]:
    why = "The base is quantised, so it stays as it is and a small adapter learns." if model.quantized else (
        "A small adapter learns nearly as well as all weights, with less memory, and forgets less."
    )  # fmt: skip
    yield Reason("adapter", "lora", why)
    rank = _first(RANKS, data.rows)
    if name == "cpt":
        rank, why = max(rank, 32), "New knowledge needs more room than a new style."
    elif online:
        rank, why = 16, "One answer teaches little, so little room is enough."
    else:
        why = f"{data.rows:,} rows: a higher rank would rather learn them by heart." if rank < 16 else (
            f"{data.rows:,} rows: room for what they show."
        )  # fmt: skip
    yield Reason("adapter.rank", rank, why)
    yield Reason("adapter.scale", 2.0, f"Alpha {2 * rank}, twice the rank, as is usual.")


def _rate(name: str, model: ModelFacts) -> Reason:
    whole: float = _first(RATES, model.parameters)
    rate = float(f"{whole * METHOD_RATES.get(name, 1.0):.3g}")
    size = f"{model.parameters / 1e9:.2g} billion weights" if model.parameters else "a model of unknown size"
    if name in METHOD_RATES:
        share = f"{rate / whole:g} of the {whole:g} usual for {size}"
        why = f"{METHODS[name].label} moves further with each update, so {share}."
    else:
        why = f"Usual for LoRA on {size}; larger models take smaller steps."
    return Reason("learning_rate", rate, why)


def _duration(name: str, data: DataFacts, *, online: bool) -> Iterator[Reason]:
    if online:
        yield Reason("epochs", 1.0, "Each prompt once: new answers come from new prompts, not from old ones.")
        return
    epochs: float = _first(EPOCHS, data.rows)
    if name == "cpt":
        epochs, why = 1.0, "Reading twice adds little."
    elif name not in {"sft", "distillation"}:
        epochs, why = min(epochs, 2.0), "Preferences are learnt fast and over-learnt soon."
    else:
        why = f"{data.rows:,} rows are {'few' if epochs > 1 else 'many'}: so often they can be seen."
    yield Reason("epochs", epochs, why)
    if data.valid_rows and epochs > 1:
        yield Reason("patience", 3, "Three evaluations without improvement end it early.")


def _batch(name: str, data: DataFacts, machine: MachineFacts, *, online: bool) -> Iterator[Reason]:
    wanted: int = 16 if online and machine.is_cpu else 32 if online else _first(UPDATES, data.rows)
    wanted = wanted if online else max(1, min(wanted, data.rows))
    if online or machine.is_cpu:
        size = min(4 if machine.is_cpu else 8, wanted)
        why = "A CPU is no faster with more rows at once." if machine.is_cpu else "Answers of one micro-batch."
        yield Reason("batch_size", size, why)
        steps = max(1, wanted // size)
        what = "answers" if online else "rows"
        yield Reason("grad_accumulation_steps", steps, f"Makes updates of {size * steps} {what}, less noisy than few.")
        return
    row = _settings_of(name).sequences * (data.tokens / data.sequences if data.sequences else 512)
    budget = BUDGETS[-1] if machine.memory >= ROOMY else BUDGETS[-2]
    budget = next(size for size in BUDGETS if size >= min(budget, wanted * row))
    why = (
        "Fills a GPU whatever the rows' length."
        if budget >= BUDGETS[-2]
        else "Few rows: smaller updates, more of them."
    )
    yield Reason("batch_tokens", budget, why)
    steps = max(1, round(wanted * row / budget))
    yield Reason("grad_accumulation_steps", steps, f"Makes updates of about {round(steps * budget / row):,} rows.")


def _rollout(name: str, values: dict[str, Any]) -> Reason:
    answers = values["batch_size"] * values["grad_accumulation_steps"]
    prompts = max(1, answers // values.get("method.num_generations", 1))
    why = "One update for each rollout: the answers are always the newest." if name == "grpo" else (
        "As many answers as an update takes; each is learnt from in every pass."
    )  # fmt: skip
    return Reason("method.rollout_batch", prompts, why)


def _length(name: str, model: ModelFacts, data: DataFacts, machine: MachineFacts, *, online: bool) -> Reason:
    most = model.context or (1 << 20)
    if name == "cpt":
        length = min(1024 if machine.is_cpu else 2048, most)
        return Reason("max_seq_length", length, "Texts are cut into pieces of this length; nothing is lost.")
    if not data.longest:
        return Reason("max_seq_length", min(1024, most), "The rows' lengths are not known; most rows are shorter.")
    wanted = data.longest if data.longest <= 2 * data.covering(0.99) else data.covering(0.99)
    length = max(SHORTEST, STEP_TOKENS * math.ceil(wanted / STEP_TOKENS))
    if length > most:
        return Reason("max_seq_length", most, f"The model reads no more than {most:,} tokens.")
    if length >= data.longest:
        return Reason("max_seq_length", length, f"The longest row has {data.longest:,} tokens: none is lost.")
    if online:
        return Reason("max_seq_length", length, f"Leaves out at most {data.cut_share(length):.1%} of the prompts.")
    return Reason(
        "max_seq_length", length, f"Cuts at most {data.cut_share(length):.1%} of the rows, the very long ones."
    )


def _schedule(*, online: bool) -> Iterator[Reason]:
    if online:
        yield Reason("lr_schedule", "constant", "Rewards have no natural end, so the rate stays.")
    else:
        yield Reason("lr_schedule", "cosine", "Starts fast and ends gently.")
    yield Reason("lr_schedule.warmup_ratio", 0.05, "The optimizer knows nothing at first, so the rate rises slowly.")


def _precision(machine: MachineFacts) -> Reason:
    if machine.is_cpu:
        return Reason("dtype", "auto", "A CPU computes fastest in 32 bits; the model is turned into it when loaded.")
    return Reason("dtype", "auto", "The model's own 16 bits; sums and trained weights are kept in 32.")


def _warnings(settings: TrainSettings, model: ModelFacts, data: DataFacts, machine: MachineFacts) -> Iterator[str]:
    if data.data_format not in settings.method.reads:
        yield f"{METHODS[settings.method.name].label} cannot train on rows of the form '{data.data_format}'."
    if not data.valid_rows:
        yield "There are no validation rows: you will not see whether it learns or memorises."
    if data.rows < 50 and not settings.method.online:
        yield f"Only {data.rows} rows: enough to try, hardly enough to learn."
    hours = hours_on_cpu(settings, model, data, machine)
    if hours > LONG_DAY:
        yield f"About {hours:,.0f} hours on this CPU. Take fewer rows, a smaller model, or a GPU."


def hours_on_cpu(settings: TrainSettings, model: ModelFacts, data: DataFacts, machine: MachineFacts) -> float:
    """Hours by counting operations; 0 where there is no telling."""
    if not machine.is_cpu or settings.method.online or settings.epochs is None:
        return 0.0
    work = COMPUTED * model.parameters * data.tokens * settings.epochs
    return work / (machine.cores * FLOPS_OF_CORE) / 3600
