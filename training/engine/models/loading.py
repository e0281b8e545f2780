"""Opens a model folder: mlx-lm's class for its type, weights checked one by one, ready to compute.

What stock ``mlx_lm.utils.load_model`` does, without importing the whole of mlx-lm, with the
problems named, and with one thing added: on a CPU a quantised model is turned back into float32
once, because quantised matrix products run at about 2 GFLOP/s there and float32 ones at 150.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten, tree_unflatten

from training.engine.errors import ModelError
from training.engine.folders import safetensors_header
from training.engine.machine.device import Device
from training.engine.models import mlx_models
from training.engine.models.tokenizer import read_object

_DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}
_HINT_AGAIN = "Import the model again; if it stays so, its files do not belong together."


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory. ``quantized`` says how it is held now, ``config`` what the folder says."""

    model: nn.Module
    config: dict[str, Any]
    quantized: bool
    dtype: mx.Dtype
    parameters: int  # numbers of the model, packed ones counted apart


@dataclass(frozen=True, slots=True)
class About:
    """What a model folder holds, found out without reading the weights themselves."""

    config: dict[str, Any]
    model_type: str
    parameters: int
    quantization: dict[str, int] | None  # {"bits", "group_size"}
    context_length: int | None


def inspect(folder: Path) -> About:
    """Check that ``folder`` is a whole model of a known type. Raises ModelError as :func:`load` does."""
    config, model = _open(folder)
    text = config.get("text_config") if isinstance(config.get("text_config"), dict) else {}
    context = config.get("max_position_embeddings") or (text or {}).get("max_position_embeddings")
    quantization = config.get("quantization")
    return About(
        config,
        str(config["model_type"]),
        _count(model),
        {k: int(quantization[k]) for k in ("bits", "group_size")} if quantization else None,
        context if isinstance(context, int) else None,
    )


def load(folder: Path, dtype: str, device: Device) -> Loaded:
    """The model in ``folder``, evaluated, in inference mode (``model.train()`` is the caller's).

    ``dtype``: float32, bfloat16, float16, or auto, which takes float32 on a CPU and the model's
    own on a GPU. On a CPU the result is never quantised.

    Raises ModelError: ``model.no_config``, ``model.no_weights``, ``model.pickle``,
    ``model.remote_code``, ``model.unknown_type``, ``model.config_broken``,
    ``model.quantization_unknown``, ``model.weights_missing``, ``model.weights_unknown``,
    ``model.weights_shape``, ``model.safetensors_*``.
    """
    loaded = open_unread(folder, dtype, device)
    # Layer by layer: the packed weights of one are let go before the next is read.
    for _, module in loaded.model.named_modules():
        mx.eval([value for value in module.values() if isinstance(value, mx.array)])
    mx.eval(loaded.model.parameters())
    return loaded


def open_unread(folder: Path, dtype: str, device: Device) -> Loaded:
    """As :func:`load`, with no weight read yet: they are when somebody looks at them."""
    config, model = _open(folder)
    parameters = _count(model)
    wanted = _DTYPES.get(dtype) or (mx.float32 if device.is_cpu else None)
    if device.is_cpu:
        assert wanted is not None
        unpack(model, None, wanted)
    if wanted is not None:
        model.set_dtype(wanted)
    return Loaded(model, config, any(True for _ in _quantized(model)), _own_dtype(model), parameters)


def _open(folder: Path) -> tuple[dict[str, Any], nn.Module]:
    """Configuration and model with its weights named and sized, none of them read yet."""
    config = _config(folder)
    model_class, args_class = mlx_models.architecture(config)
    try:
        model: nn.Module = model_class(args_class.from_dict(config))
    except (TypeError, ValueError, KeyError, AttributeError, ZeroDivisionError) as error:
        raise ModelError(
            "model.config_broken",
            f"config.json does not describe a {config['model_type']} model: {error}.",
            _HINT_AGAIN,
        ) from None
    weights = _weights(folder)
    if hasattr(model, "sanitize"):
        weights = model.sanitize(weights)
    if config.get("quantization"):
        _quantize(model, config["quantization"], weights)
    _compare(model, weights)
    model.eval()
    model.load_weights(list(weights.items()))
    return config, model


def _config(folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise ModelError(
            "model.no_config",
            f"The model folder {folder.name} has no config.json.",
            "Give the folder that holds config.json, tokenizer.json and the safetensors files.",
        )
    config = read_object(folder / "config.json")
    quantization = config.get("quantization")
    if quantization is not None and not (
        isinstance(quantization, dict) and all(isinstance(quantization.get(k), int) for k in ("bits", "group_size"))
    ):
        raise ModelError(
            "model.config_broken", "config.json has a 'quantization' without bits or group_size.", _HINT_AGAIN
        )
    foreign = config.get("quantization_config")
    if isinstance(foreign, dict) and quantization is None:
        raise ModelError(
            "model.quantization_unknown",
            f"The model is quantised by '{str(foreign.get('quant_method', 'an unknown method'))[:40]}', not by MLX.",
            "Take the model in full precision, or one that was converted for MLX (mlx_lm.convert).",
        )
    return config


def _weights(folder: Path) -> dict[str, mx.array]:
    """All tensors of the folder, lazily: MLX reads a file's numbers when they are needed."""
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt"))
        if pickles:
            raise ModelError(
                "model.pickle",
                f"The weights are in {pickles[0]}, a format that can run programs when it is opened.",
                "Take the safetensors files of this model; nearly every model has them.",
            )
        raise ModelError(
            "model.no_weights",
            f"The model folder {folder.name} has no model*.safetensors.",
            "Give the folder that holds config.json, tokenizer.json and the safetensors files.",
        )
    weights: dict[str, mx.array] = {}
    for file in files:
        names = safetensors_header.read(file)
        twice = next((name for name in names if name in weights), None)
        if twice:
            raise ModelError("model.weights_twice", f"'{twice[:80]}' stands in two of the files.", _HINT_AGAIN)
        weights.update(mx.load(str(file)))  # type: ignore[arg-type]  # a dict, for safetensors
    return weights


def _quantize(model: nn.Module, quantization: dict[str, Any], weights: dict[str, mx.array]) -> None:
    """Give the layers that are packed in ``weights`` their packed form.

    A layer's own entry in config.json wins; otherwise the shapes say how it was packed.
    """

    def how(path: str, module: nn.Module) -> bool | dict[str, Any]:
        if path in quantization:
            entry: bool | dict[str, Any] = quantization[path]
            return entry
        if not hasattr(module, "to_quantized") or f"{path}.scales" not in weights:
            return False
        mode = quantization.get("mode", "affine")
        if mode != "affine":
            return {"group_size": quantization["group_size"], "bits": quantization["bits"], "mode": mode}
        width = module.weight.shape[-1]
        return {
            "group_size": width // weights[f"{path}.scales"].shape[-1],
            "bits": weights[f"{path}.weight"].shape[-1] * 32 // width,
        }

    try:
        nn.quantize(model, quantization["group_size"], quantization["bits"], class_predicate=how)
    except (ValueError, TypeError, RuntimeError, KeyError, ZeroDivisionError) as error:
        raise ModelError("model.config_broken", f"Its quantisation cannot be: {error}.", _HINT_AGAIN) from None


def _compare(model: nn.Module, weights: dict[str, mx.array]) -> None:
    """Every parameter of the model has its tensor of the right shape, and there are no others."""
    needed = dict(tree_flatten(model.parameters()))
    missing, unknown = needed.keys() - weights.keys(), weights.keys() - needed.keys()
    if missing:
        message = f"{len(missing)} of the model's weights are missing: {_some(missing)}."
        raise ModelError("model.weights_missing", message, _HINT_AGAIN)
    if unknown:
        message = f"{len(unknown)} weights do not belong to this model: {_some(unknown)}."
        raise ModelError("model.weights_unknown", message, _HINT_AGAIN)
    wrong = [
        f"{name} is {tuple(weights[name].shape)} instead of {tuple(value.shape)}"
        for name, value in needed.items()
        if weights[name].shape != value.shape
    ]
    if wrong:
        message = f"{len(wrong)} weights have another shape: {_some(wrong)}."
        raise ModelError("model.weights_shape", message, _HINT_AGAIN)


def _some(names: Any) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:3]) + (", …" if len(ordered) > 3 else "")


def _quantized(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        if "scales" in module and hasattr(module, "bits"):
            yield name, module


def unpack(model: nn.Module, names: Container[str] | None, dtype: mx.Dtype) -> None:
    """Replace the packed layers at ``names`` (None: all) by plain ones of ``dtype``; nothing is computed yet.

    Raises ModelError ``model.quantization_unknown``.
    """
    switches = mlx_models.submodule("models.switch_layers")
    plain = {
        nn.QuantizedLinear: nn.Linear,
        nn.QuantizedEmbedding: nn.Embedding,
        switches.QuantizedSwitchLinear: switches.SwitchLinear,
    }
    replaced = []
    for name, module in _quantized(model):
        if names is not None and name not in names:
            continue
        kind = plain.get(type(module))
        if kind is None:
            raise ModelError(
                "model.quantization_unknown",
                f"The layer {name} is quantised in a way that is not computed on a CPU ({type(module).__name__}).",
                "Take the model in full precision.",
            )
        packed = (module.weight, module.scales.astype(dtype), None)
        if "biases" in module:
            packed = (module.weight, module.scales.astype(dtype), module.biases.astype(dtype))
        elif module.scales.dtype == mx.uint8:  # the microscaling formats have no biases
            packed = (module.weight, module.scales, None)
        weight = mx.dequantize(*packed, module.group_size, module.bits, module.mode)
        # Built without its random start values: of the right class, with the parts it had.
        layer = kind.__new__(kind)
        nn.Module.__init__(layer)
        layer.weight = weight.astype(dtype)
        if "bias" in module:
            layer.bias = module.bias
        replaced.append((name, layer))
    if replaced:
        model.update_modules(tree_unflatten(replaced))
        model.eval()


def _count(model: nn.Module) -> int:
    total = 0
    for _, module in model.named_modules():
        for name, value in module.items():
            if not isinstance(value, mx.array) or name.startswith("_"):
                continue
            packed = "scales" in module and hasattr(module, "bits")
            if packed and name in ("scales", "biases"):
                continue
            total += value.size * 32 // module.bits if packed and name == "weight" else value.size
    return total


def _own_dtype(model: nn.Module) -> mx.Dtype:
    """The number format of most of the model's floating-point parameters."""
    sizes: dict[mx.Dtype, int] = {}
    for value in dict(tree_flatten(model.parameters())).values():
        if mx.issubdtype(value.dtype, mx.floating):
            sizes[value.dtype] = sizes.get(value.dtype, 0) + value.size
    return max(sizes, key=lambda d: sizes[d], default=mx.float32)
