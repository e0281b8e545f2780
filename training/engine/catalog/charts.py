"""What a training reports, in words, and in which charts it is drawn.

A metric's name is a quantity's name with ``train_`` before it for what an update was computed on, ``val_`` or
``test_`` for the rows put aside, or with nothing for what is told about answers and updates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from training.engine.catalog.methods import METHODS
from training.engine.catalog.rows import Table
from training.engine.catalog.rules import RULES

Format = Literal["loss", "signif", "rate", "speed", "percent", "count"]
Better = Literal["less", "more", ""]
_PARTS = {"train_": "training", "val_": "held out", "test_": "test", "": ""}
_RULE = re.compile(rf"^(?:reward_)?({'|'.join(row.name for row in RULES)})(?:_(\d+))?$")


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something that is measured. ``better``: whether less or more of it is better; "" where neither is.

    ``where``: before what its name stands in metrics; "train_" and "val_" for a method's own terms.
    """

    name: str
    label: str
    help: str
    format: Format = "signif"
    better: Better = ""
    where: tuple[str, ...] = ("train_", "val_")


@dataclass(frozen=True, slots=True)
class Chart:
    """Quantities drawn together. ``methods``: names or families of those that tell them; none: all methods."""

    name: str
    title: str
    quantities: tuple[str, ...]
    help: str
    format: Format = "signif"
    methods: tuple[str, ...] = ()
    log: bool = False
    smooth: bool = False


_Q, _ANSWERS = Quantity, ("", "val_")
QUANTITIES = Table(
    "quantity",
    _Q("loss", "Loss", "What the training makes smaller; how it is made up depends on the method.", "loss", "less"),
    _Q("perplexity", "Perplexity", "Between how many tokens the model hesitates: e to the loss.", "signif", "less",
       where=("val_",)),
    _Q("divergence", "Divergence", "How far the student's next token is from the teacher's, in nats.", "loss", "less"),
    _Q("cross_entropy", "Cross-entropy", "Loss of the data's own tokens, in nats per token.", "loss", "less"),
    _Q("reward_chosen", "Chosen", "How much likelier the better answer has become; a score, in a reward model."),
    _Q("reward_rejected", "Rejected", "The same of the worse answer. It should stay below the chosen one's."),
    _Q("reward_margin", "Margin", "Chosen minus rejected: how clearly the answers are told apart.", better="more"),
    _Q("reward_accuracy", "Accuracy", "Share of rows that are judged right; 50 % is guessing.", "percent", "more"),
    _Q("desirable", "Good answers", "Share of the rows that are marked as good.", "percent"),
    _Q("kl", "KL", "How far the model has moved from where it began, in nats for each answer.",
       where=("", "train_", "val_")),
    _Q("reward", "Reward", "What the answers earn on average, by rules and reward model.", better="more",
       where=_ANSWERS),
    _Q("reward_std", "Spread", "Deviation of the rewards. Near 0 there is nothing left to learn from.", where=_ANSWERS),
    _Q("reward_model", "Reward model", "Mean score of the reward model.", better="more", where=_ANSWERS),
    _Q("rule_score", "Score by rules", "Weighted sum of the rules on held-out prompts.", better="more",
       where=("val_",)),
    _Q("equal_groups", "Equal groups", "Share of prompts whose answers all earn the same; they teach nothing.",
       "percent", where=("",)),
    _Q("entropy", "Entropy", "How undecided the model is at a token, in nats. Falling to 0 it repeats itself.",
       where=_ANSWERS),
    _Q("answer_tokens", "Tokens of an answer", "Mean length. A jump is often a trick that earns rewards.",
       where=_ANSWERS),
    _Q("finished_share", "Finished", "Share of answers that end by themselves and are not cut.", "percent", "more",
       where=_ANSWERS),
    _Q("own_answers", "Own answers", "1 where the student wrote the answers itself, 0 where they are the data's.",
       where=("",)),
    _Q("policy_loss", "Policy", "Part of the loss that makes rewarded answers likelier.", where=("train_",)),
    _Q("value_loss", "Value", "Error of the expected rewards.", better="less", where=("train_",)),
    _Q("explained_variance", "Explained", "How much of the rewards the value head foresees; 1 is all, 0 nothing.",
       better="more", where=("",)),
    _Q("approx_kl", "Step in KL", "How far the updates of a rollout have moved the model. Above 0.1 is much.",
       where=("train_",)),
    _Q("kl_coef", "Coefficient", "What a token pays for its distance from the model before the training.", where=("",)),
    _Q("clip_fraction", "Clipped", "Share of tokens that moved as far as a rollout allows. Above 30 % is much.",
       "percent", where=("train_",)),
    _Q("clip_low", "Clipped below", "Share of tokens held back from becoming even less likely.", "percent",
       where=("train_",)),
    _Q("clip_high", "Clipped above", "Share of tokens held back from becoming even likelier.", "percent",
       where=("train_",)),
    _Q("value_clip_fraction", "Clipped values", "Share of values that moved as far as a rollout allows.", "percent",
       where=("train_",)),
    _Q("generation_share", "Writing", "Share of the time that goes into writing answers.", "percent", where=("",)),
    _Q("scoring_share", "Scoring", "Share of the time that goes into judging and reading them.", "percent",
       where=("",)),
    _Q("learning_share", "Learning", "Share of the time that goes into updates.", "percent", where=("",)),
    _Q("learning_rate", "Rate", "Size of an update, as the schedule has it.", "rate", where=("",)),
    _Q("grad_norm", "Norm", "Length of the gradient before it is clipped. Jumps announce trouble.", where=("",)),
    _Q("loss_scale", "Loss scale", "Factor that keeps small gradients from vanishing in float16.", "count",
       where=("",)),
    _Q("skipped_updates", "Skipped updates", "Updates left out because a gradient was no number.", "count",
       where=("",)),
    _Q("tokens_per_second", "Tokens/s", "Trained tokens for each second of computing.", "speed", "more", where=("",)),
    _Q("step_seconds", "Seconds", "Time of an update.", better="less", where=("",)),
    _Q("trained_tokens", "Trained tokens", "All tokens that the loss has counted so far.", "count", where=("",)),
    _Q("epoch", "Epoch", "How often all rows have been seen.", where=("",)),
    _Q("memory_gb", "Now", "Memory in use, in GB.", where=("",)),
    _Q("peak_memory_gb", "Peak", "Most memory that was in use at once, in GB.", better="less", where=("",)),
)  # fmt: skip

_PAIRS = ("dpo", "orpo", "simpo", "cpo", "reward_model")
_ONLINE = ("grpo", "ppo")
CHARTS = Table(
    "chart",
    Chart("reward", "Reward", ("reward",), "What answers earn. It is the aim: it should rise, above all on held-out "
          "prompts.", methods=_ONLINE, smooth=True),
    Chart("loss", "Loss", ("loss",), "It should fall. Where the held-out loss rises again while the other falls, the "
          "model learns its rows by heart. In reinforcement it says little: look at the reward.", "loss", log=True,
          smooth=True),
    Chart("margin", "Margin of the better answer", ("reward_margin",), "It should rise, on held-out pairs, too.",
          methods=_PAIRS, smooth=True),
    Chart("accuracy", "Answers judged right", ("reward_accuracy",), "Above 50 % the model knows more than chance. "
          "100 % after a few steps: the pairs are easy to tell apart, by their length perhaps.", "percent",
          (*_PAIRS, "kto"), smooth=True),
    Chart("rewards", "Both answers", ("reward_chosen", "reward_rejected"), "How much likelier each answer has become. "
          "Both may fall, as long as the rejected one falls further.", methods=(*_PAIRS, "kto")),
    Chart("divergence", "Distance from the teacher", ("divergence", "cross_entropy"), "The divergence should fall; the "
          "cross-entropy of the data need not.", "loss", ("Distillation",)),
    Chart("rules", "Rules", (), "Mean of each rule.", methods=_ONLINE),
    Chart("kl", "Distance from the beginning", ("kl",), "Grows as the model moves. Growing fast while the reward "
          "jumps, it has found a trick.", methods=("kto", *_ONLINE)),
    Chart("spread", "Spread of the rewards", ("reward_std",), "Answers that all earn the same teach nothing.",
          methods=_ONLINE),
    Chart("groups", "Prompts with equal answers", ("equal_groups",), "Above one half, most of the work is lost: take "
          "harder or easier prompts.", "percent", ("grpo",)),
    Chart("length", "Length of answers", ("answer_tokens",), "In tokens.", "count", (*_ONLINE, "gkd")),
    Chart("finished", "Finished answers", ("finished_share",), "The rest was cut at the longest length.", "percent",
          (*_ONLINE, "gkd")),
    Chart("entropy", "Entropy", ("entropy",), "Falls as the model grows sure. Near 0 it always writes the same.",
          methods=_ONLINE),
    Chart("clip", "Clipped tokens", ("clip_fraction", "clip_low", "clip_high", "value_clip_fraction"), "More than a "
          "third: the rate is too high or a rollout is gone over too often.", "percent", _ONLINE),
    Chart("parts", "Parts of the loss", ("policy_loss", "value_loss"), "The value's part should fall.",
          methods=("ppo",)),
    Chart("foresight", "Foreseen rewards", ("explained_variance",), "Rises to 1 as the value head learns.",
          methods=("ppo",)),
    Chart("step_kl", "Step in KL", ("approx_kl",), "How far each rollout moves the model.", methods=("ppo",)),
    Chart("kl_coef", "KL coefficient", ("kl_coef",), "Moves where it is adaptive.", "rate", ("ppo",)),
    Chart("own", "Own answers", ("own_answers",), "Which rollouts the student wrote itself.", methods=("gkd",)),
    Chart("shares", "Where the time goes", ("generation_share", "scoring_share", "learning_share"), "Of each rollout.",
          "percent", (*_ONLINE, "gkd")),
    Chart("good", "Good answers", ("desirable",), "Share of rows that are marked as good.", "percent", ("kto",)),
    Chart("perplexity", "Perplexity", ("perplexity",), "e to the held-out loss.", methods=("sft", "cpt"), log=True),
    Chart("lr", "Learning rate", ("learning_rate",), "As the schedule has it.", "rate"),
    Chart("norm", "Gradient norm", ("grad_norm",), "Before it is clipped. Jumps announce trouble.", log=True),
    Chart("speed", "Trained tokens per second", ("tokens_per_second",), "Without evaluations and checkpoints.",
          "speed"),
    Chart("memory", "Memory in GB", ("peak_memory_gb", "memory_gb"), "The peak is what the machine must have."),
)  # fmt: skip


def split(metric: str) -> tuple[str, str]:
    """A metric's name as what it was measured on (``train_``, ``val_``, ``test_``, nothing) and the quantity."""
    for prefix in ("train_", "val_", "test_"):
        if metric.startswith(prefix):
            return prefix, metric.removeprefix(prefix)
    return "", metric


def quantity(metric: str) -> Quantity:
    """What is measured by ``metric``; one that nobody knows, such as a curve of an older version, by its name."""
    name = split(metric)[1]
    if name in QUANTITIES:
        return QUANTITIES[name]
    if rule := _RULE.match(name):
        label = RULES[rule[1]].label + (f" {rule[2]}" if rule[2] else "")
        return Quantity(name, label, RULES[rule[1]].summary, "signif", "more")
    return Quantity(name, name.replace("_", " "), "")


def label(metric: str) -> str:
    """The words of a curve, such as "Margin, held out"."""
    part = _PARTS[split(metric)[0]]
    return f"{quantity(metric).label}, {part}" if part else quantity(metric).label


@dataclass(frozen=True, slots=True)
class Drawn:
    """A chart with the metrics that it draws."""

    chart: Chart
    metrics: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What the lines are called, shortly where there is one quantity only."""
        if len(self.chart.quantities) == 1 and len(self.metrics) > 1:
            return tuple({"val_": "Held out", "test_": "Test"}.get(split(m)[0], "Training") for m in self.metrics)
        return tuple(label(metric) for metric in self.metrics)

    @property
    def keys(self) -> str:
        """The metrics for an attribute of HTML."""
        return ",".join(self.metrics)

    @property
    def joined(self) -> str:
        """The lines' names, parted by a sign that no label holds."""
        return "|".join(self.names)

    @property
    def best(self) -> str:
        """The metric whose best point is marked: the held-out one, where more or less of it is better."""
        held_out = [m for m in self.metrics if split(m)[0] == "val_" and quantity(m).better]
        return held_out[0] if len(self.chart.quantities) == 1 and held_out else ""

    @property
    def better(self) -> Better:
        """Which way is good, of that metric."""
        return quantity(self.best).better if self.best else ""


def drawn(method: str, goal: str, present: Iterable[str]) -> list[Drawn]:
    """The charts of a training in their order, the one of its goal first.

    ``present``: metrics that have points. Before there are any, the charts that the method will fill are
    there all the same; a chart that only others would fill is not.
    """
    there = set(present)
    group = METHODS[method].settings.group if method in METHODS else ""  # type: ignore[attr-defined]  # a method's
    found = []
    for chart in CHARTS:
        names = _rules(there) if chart.name == "rules" else _metrics(chart, there, goal)
        ours = not chart.methods or method in chart.methods or group in chart.methods
        if names and (ours or names[0] in there):
            found.append(Drawn(chart, tuple(names)))
    return found


def _metrics(chart: Chart, there: set[str], goal: str) -> list[str]:
    """The metrics of a chart that have points; while none has, those that may come."""
    found = [f"{part}{name}" for name in chart.quantities for part in ("train_", "", "val_")]
    if known := [name for name in found if name in there]:
        return known
    if chart.name == "loss" and goal != "loss":
        return ["train_loss"]
    return [f"{part}{name}" for name in chart.quantities for part in QUANTITIES[name].where]


def _rules(there: set[str]) -> list[str]:
    """Metrics of single rules, and of the reward model beside them."""
    single = sorted(name for name in there if _RULE.match(split(name)[1]) or split(name)[1] == "rule_score")
    return [*single, *sorted(name for name in there if split(name)[1] == "reward_model")]
