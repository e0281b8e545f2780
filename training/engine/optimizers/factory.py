"""Optimizers and learning-rate schedules, from their catalog settings.

An optimizer is put together here: which rule, rate and decay each weight of a model has. A schedule is a
function of the update's number: it returns the factor on the learning rate.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter

import mlx.core as mx
import mlx.optimizers as mo
from mlx import nn
from mlx.utils import tree_flatten, tree_map

from training.engine.catalog.optimizers import OPTIMIZERS, OptimizerSettings
from training.engine.catalog.parameter_groups import ParameterGroup, kinds_of
from training.engine.catalog.rows import Settings
from training.engine.catalog.schedules import SCHEDULES, Warmed
from training.engine.config.training import TrainSettings
from training.engine.errors import ConfigError, Problem
from training.engine.optimizers.groups import Grouped, Share

Factor = Callable[[int], float]


def build(config: TrainSettings, model: nn.Module) -> Grouped:
    """The optimizer that ``config`` describes for ``model``; the trainer sets its rate before each update.

    Freezes in ``model`` what parameter groups freeze. Raises ConfigError when a group matches no weight, or
    when all weights are frozen.
    """
    names = [name for name, _ in tree_flatten(model.trainable_parameters())]
    members = _members(config.parameter_groups, names)
    frozen = [name for name, group in members.items() if group.freeze]
    if names and len(frozen) == len(names):
        raise _wrong("nothing_left", "The parameter groups freeze every weight.", "Freeze fewer weights.")
    _freeze(model, frozen)
    return Grouped(_Shares(config, model, members), config.learning_rate, masters=config.master_weights)


class _Shares:
    """Says how a weight of ``model`` is updated. Weights of one kind share a rule."""

    def __init__(self, config: TrainSettings, model: nn.Module, members: dict[str, ParameterGroup]) -> None:
        self._config, self._members = config, members
        self._blocks = _block_prefixes(model)
        self._rules: dict[tuple[OptimizerSettings, float], mo.Optimizer] = {}

    def __call__(self, name: str, weight: mx.array) -> Share:
        config, group = self._config, self._members.get(name)
        asked: OptimizerSettings = config.optimizer  # type: ignore[assignment]  # the catalog's rows are of this kind
        in_block = self._blocks is None or name.startswith(self._blocks)
        settings = asked.for_weight(block_matrix=in_block and weight.ndim == 2)
        decay = group.weight_decay if group is not None else None
        if decay is None and not config.decay_norms_and_biases and is_norm_or_bias(name, weight):
            decay = 0.0
        if decay is not None:
            settings = settings.model_copy(update={"weight_decay": decay})
        ratio = (group.lr_ratio if group is not None else 1.0) * self._adapter_ratio(name, weight)
        if (settings, ratio) not in self._rules:
            made = OPTIMIZERS[settings.name].load()(settings, config.learning_rate)
            self._rules[settings, ratio] = made
        # The matrices of adapters lie the other way round than all others.
        turned = weight.ndim == 2 and name.endswith(("lora_a", "lora_b"))
        return Share(self._rules[settings, ratio], ratio, turned)

    def _adapter_ratio(self, name: str, weight: mx.array) -> float:
        """LoRA+ (Hayou et al. 2024, arXiv 2402.12354); like PEFT it takes B and all that has one axis."""
        faster = name.endswith("lora_b") or weight.ndim < 2
        return float(getattr(self._config.adapter, "loraplus_lr_ratio", 1.0)) if faster else 1.0


def is_norm_or_bias(name: str, weight: mx.array) -> bool:
    """Whether weight decay leaves it alone by default: a weight of one axis, or a bias."""
    return weight.ndim < 2 or name.rpartition(".")[2] == "bias"


def _block_prefixes(model: nn.Module) -> tuple[str, ...] | None:
    """What the names of weights in blocks begin with; None for a model that has no blocks."""
    blocks = {id(block) for block in getattr(model, "layers", ())}
    return tuple(f"{name}." for name, module in model.named_modules() if id(module) in blocks) or None


def _members(groups: list[ParameterGroup], names: list[str]) -> dict[str, ParameterGroup]:
    """The group of each weight that has one."""
    members: dict[str, ParameterGroup] = {}
    for place, group in enumerate(groups):
        hits = [name for name in names if group.matches(name)]
        if not hits:
            known = f"The trained weights are: {kinds_of(names)}."
            raise _wrong("no_match", f"No trained weight matches '{group.pattern}'.", known, place)
        if all(name in members for name in hits):
            sentence = f"Every weight that matches '{group.pattern}' belongs to a group before it."
            raise _wrong("covered", sentence, "The first group that matches decides: move this one up.", place)
        members |= {name: group for name in hits if name not in members}
    return members


def _freeze(model: nn.Module, names: list[str]) -> None:
    modules = dict(model.named_modules())
    for name in names:
        owner, _, leaf = name.rpartition(".")
        while owner not in modules:  # a weight in a list or a table that a module holds
            owner, _, leaf = owner.rpartition(".")
        modules[owner].freeze(keys=[leaf], recurse=False)


def _wrong(code: str, message: str, hint: str, *place: int) -> ConfigError:
    return ConfigError.of([Problem(("parameter_groups", *place), f"parameter_groups.{code}", message, hint)])


def schedule(settings: Settings, total: int) -> Factor:
    """The factor on the rate for update 0 … ``total`` − 1."""
    made: Factor = SCHEDULES[settings.name].load()(settings, total)
    return made


def curve(s: Warmed, total: int) -> Factor:
    """Every schedule draws its own curve; see ``multiplier`` in the catalog."""
    return lambda update: s.multiplier(update, total)


def norm(gradients: object) -> mx.array:
    """Euclidean length of all gradients together, in float32. Shape ().

    Summed up by name: a tree that was read back from a file has another order, and sums would round differently.
    """
    named = sorted(tree_flatten(gradients), key=itemgetter(0))
    squares = [mx.sum(mx.square(g.astype(mx.float32))) for _, g in named]
    return mx.sqrt(mx.sum(mx.stack(squares)))


def clip(gradients: object, length: mx.array, longest: float) -> object:
    """``gradients`` shortened to at most ``longest``; 0 leaves them alone.

    As torch's clip_grad_norm_: the factor is longest / (length + 1e-6), at most 1. Number formats stay as
    they are: a float32 factor would otherwise turn 16-bit gradients, and with them the weights, into float32.
    """
    if longest <= 0:
        return gradients
    factor = mx.minimum(longest / (length + 1e-6), 1.0)
    return tree_map(lambda g: (g * factor).astype(g.dtype), gradients)
