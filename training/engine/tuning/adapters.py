"""What is trained: adapters put into a model, or the model's own blocks unfrozen.

Adapters are mlx-lm's own layers under mlx-lm's own names, so that their files load in stock mlx-lm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten, tree_unflatten

from training.engine.catalog.adapters import ADAPTERS, Dora, Full, Lora, matched, multiplier
from training.engine.catalog.rows import Settings
from training.engine.errors import ConfigError, Problem
from training.engine.folders import places
from training.engine.models.mlx_models import submodule

WEIGHTS, CONFIG = places.WEIGHTS, places.CONFIG


def apply(model: nn.Module, settings: Settings, *, quantized: bool = False) -> None:
    """Freeze ``model`` and make trainable what ``settings`` ask for. Draws from MLX's random stream.

    ``quantized``: whether the model's folder holds quantised weights, however they lie in memory now.
    Weights trained in full would not fit into such a folder's model again.
    """
    put(model, settings, quantized=quantized)
    mx.eval(model.trainable_parameters())


def put(model: nn.Module, settings: Settings, *, quantized: bool = False) -> None:
    """As :func:`apply`, with nothing computed or read yet."""
    if quantized and isinstance(settings, Full):
        raise _needs_unquantised()
    model.freeze()
    ADAPTERS[settings.name].load()(model, settings)


def apply_lora(model: nn.Module, s: Lora) -> None:
    lora, switch = submodule("tuner.lora"), submodule("models.switch_layers")

    def convert(path: str, layer: nn.Module) -> nn.Module:
        how = {"r": s.rank_of(path), "scale": s.multiplier(path), "dropout": s.dropout}
        if hasattr(layer, "to_lora"):
            return layer.to_lora(**how)
        experts = isinstance(layer, switch.SwitchLinear | switch.QuantizedSwitchLinear)
        kind = lora.LoRASwitchLinear if experts else lora.LoRALinear
        made = kind.from_base(layer, **how)
        return made if experts else _in_own_format(made)

    kinds = (nn.Linear, nn.QuantizedLinear, switch.SwitchLinear, switch.QuantizedSwitchLinear)
    _convert_blocks(model, s, lambda m: hasattr(m, "to_lora") or isinstance(m, kinds), convert)


def _in_own_format(layer: nn.Module) -> nn.Module:
    """``layer``, an mlx-lm LoRALinear, computing in the format of its input.

    The stock one multiplies in its float32 matrices' format: a 16-bit model then keeps a float32 copy of every
    linear layer's input and output. The matrices stay float32, so that small updates are not lost; what is
    multiplied is their 16-bit copy. On float32 only the order of the last two products differs.
    """
    kind = type(layer)

    def call(self: Any, x: mx.array) -> mx.array:
        y = self.linear(x)
        low = self.dropout(x) @ self.lora_a.astype(x.dtype)
        return y + low @ (self.scale * self.lora_b).astype(x.dtype)

    layer.__class__ = type(kind.__name__, (kind,), {"__call__": call})
    return layer


def apply_dora(model: nn.Module, s: Dora) -> None:
    dora = submodule("tuner.dora").DoRALinear

    def convert(path: str, linear: nn.Module) -> nn.Module:
        # Stock from_base takes input_dims * (32 // bits), which is wrong for 3, 5 and 6 bits.
        rows, columns = linear.weight.shape
        if isinstance(linear, nn.QuantizedLinear):
            columns = columns * 32 // linear.bits
        rank, scale = s.rank_of(path), s.multiplier(path)
        layer = dora(input_dims=columns, output_dims=rows, r=rank, dropout=s.dropout, scale=scale)
        layer.set_linear(linear)
        return layer

    _convert_blocks(model, s, lambda m: isinstance(m, nn.Linear | nn.QuantizedLinear), convert)


def apply_full(model: nn.Module, s: Full) -> None:
    if any(isinstance(m, nn.QuantizedLinear | nn.QuantizedEmbedding) for m in model.modules()):
        raise _needs_unquantised()
    for block in _blocks(model, s.num_layers):
        block.unfreeze()


def _needs_unquantised() -> ConfigError:
    problem = Problem(
        ("adapter", "name"),
        "adapter.needs_unquantised",
        "Full fine-tuning changes the model's own weights, and these are quantised.",
        "Choose LoRA or DoRA, or a model in 16 or 32 bits.",
    )
    return ConfigError.of([problem])


def _blocks(model: nn.Module, num_layers: int) -> list[nn.Module]:
    blocks = list(model.layers)
    return blocks if num_layers < 0 else blocks[len(blocks) - min(num_layers, len(blocks)) :]


def _convert_blocks(
    model: nn.Module,
    s: Lora | Dora,
    fits: Callable[[nn.Module], bool],
    convert: Callable[[str, nn.Module], nn.Module],
) -> None:
    """Replace the fitting linear layers of the chosen blocks; unknown module names are an error."""
    wanted = None if s.keys is None else set(s.keys)
    found: set[str] = set()
    paths: set[str] = set()
    known = sorted({k for block in model.layers for k, m in block.named_modules() if fits(m)})
    names_of = {id(module): name for name, module in model.named_modules()}
    for block in _blocks(model, s.num_layers):
        hits = [(k, m) for k, m in block.named_modules() if fits(m) and (wanted is None or k in wanted)]
        found.update(k for k, _ in hits)
        paths.update(names_of[id(m)] for _, m in hits)
        block.update_modules(tree_unflatten([(k, convert(names_of[id(m)], m)) for k, m in hits]))
    names = sorted(wanted - found) if wanted is not None else []
    if names or not found:
        raise ConfigError.of(
            [
                Problem(
                    ("adapter", "keys"),
                    "adapter.no_module",
                    f"The model has no module {', '.join(names)}." if names else "No block has a module to adapt.",
                    f"Its blocks have: {', '.join(known)}." if known else "Choose another adapter or more layers.",
                )
            ]
        )

    _refuse_idle_patterns(s, paths)


def _refuse_idle_patterns(s: Lora | Dora, paths: set[str]) -> None:
    """A name in a pattern that no adapted module ends with is a slip."""
    problems = [
        Problem(
            ("adapter", setting, name),
            "adapter.no_module",
            f"No adapted module is called {name}.",
            f"Such as: {', '.join(sorted(paths)[-3:])}.",
        )
        for setting in ("rank_pattern", "alpha_pattern")
        for name in getattr(s, setting)
        if not any(matched({name: 1.0}, path, 0.0) for path in paths)
    ]
    if problems:
        raise ConfigError.of(problems)


def describe(settings: Settings) -> dict[str, Any]:
    """``adapter_config.json`` as stock mlx-lm reads it: of the weights in :func:`stock_form`.

    Where settings go beyond what it knows, they stand beside that under PEFT's names.
    """
    if isinstance(settings, Full):
        return {"fine_tune_type": "full", "num_layers": settings.num_layers}
    assert isinstance(settings, Lora | Dora)
    s = settings
    largest = max(s.rank, *s.rank_pattern.values()) if s.rank_pattern else s.rank
    parameters: dict[str, Any] = {"rank": largest, "scale": s.multiplier(), "dropout": s.dropout}
    if s.keys is not None:
        parameters["keys"] = list(s.keys)
    # Stock mlx-lm reads 0 and less as "all blocks"; -1 says so in its own words.
    config: dict[str, Any] = {"fine_tune_type": s.name, "num_layers": s.num_layers, "lora_parameters": parameters}
    if s.use_rslora or s.rank_pattern or s.alpha_pattern:
        config |= {"r": s.rank, "lora_alpha": s.alpha, "use_rslora": s.use_rslora}
        config |= {"rank_pattern": s.rank_pattern, "alpha_pattern": s.alpha_pattern}
    return config


def stock_form(weights: dict[str, mx.array], config: dict[str, Any]) -> dict[str, mx.array]:
    """``weights`` as stock mlx-lm can read them beside ``config`` (of :func:`describe`): of one rank and scale.

    Lower ranks are filled up with zeros, another scale goes into B, so that the product stays what it is up to
    the last digit of float32. The very same dictionary when there is nothing to do.
    """
    if not config.get("rank_pattern") and not config.get("alpha_pattern"):
        return weights
    rank, scale = config["lora_parameters"]["rank"], config["lora_parameters"]["scale"]
    factors = {}
    for name, value in weights.items():
        path, _, leaf = name.rpartition(".")
        if leaf == "lora_b":
            alpha = matched(config["alpha_pattern"], path, config["lora_alpha"])
            own = value.shape[_rank_axis(leaf, value)]
            factors[path] = multiplier(alpha, own, use_rslora=config["use_rslora"]) / scale
    return in_one_scale(weights, rank, factors)


def in_one_scale(weights: dict[str, mx.array], rank: int, factors: dict[str, float]) -> dict[str, mx.array]:
    """``weights`` with B of each module times its factor, and all of one ``rank``, filled up with zeros."""
    made = {}
    for name, value in weights.items():
        path, _, leaf = name.rpartition(".")
        made[name] = value
        if leaf in ("lora_a", "lora_b"):
            factor, axis = factors[path], _rank_axis(leaf, value)
            scaled = value * factor if leaf == "lora_b" and factor != 1 else value
            wider = [(0, rank - value.shape[axis] if i == axis else 0) for i in range(value.ndim)]
            made[name] = mx.pad(scaled, wider) if rank != value.shape[axis] else scaled
    return made


def _rank_axis(leaf: str, value: mx.array) -> int:
    """Of experts A is (experts, rank, in) and B (experts, out, rank); of others A is (in, rank), B (rank, out)."""
    if value.ndim == 3:
        return 1 if leaf == "lora_a" else 2
    return 1 if leaf == "lora_a" else 0


def trained_weights(model: nn.Module) -> dict[str, mx.array]:
    """What a checkpoint keeps, by full names: trainable parameters, and what a parameter group froze of adapters.

    A frozen A was drawn at random: whoever loads the file would draw another one.
    """
    weights = dict(tree_flatten(model.trainable_parameters()))
    for name, module in model.named_modules():
        weights |= {
            f"{name}.{leaf}": module[leaf]
            for leaf in ("lora_a", "lora_b", "m")
            if "lora_a" in module and leaf in module
        }
    return weights
