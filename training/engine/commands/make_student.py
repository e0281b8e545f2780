"""A smaller model out of a larger one: some of its layers, everything else as it is.

A student begun so learns much faster than a random one (DistilBERT keeps every other layer: Sanh et al. 2019,
arXiv 1910.01108). By itself it writes nonsense; distillation puts it right. Weights keep their own number format.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten

from training.engine import SCHEMA
from training.engine.config import derived
from training.engine.config.derived import MakeStudentConfig
from training.engine.errors import ModelError
from training.engine.foreign import model_folder, model_making
from training.engine.machine.device import Device
from training.engine.models import loading, mlx_models, tokenizer
from training.engine.report import Reporter
from training.engine.run.rundir import write_json
from training.engine.tuning.fuse import open_place

#: Entries of config.json with one value for each layer.
_BY_LAYER = ("layer_types", "mlp_layer_types", "no_rope_layers", "layers_block_type", "block_types")
_COUNT = "num_hidden_layers"
_NO_TRAIT = ("layer_idx", "layer_id", "layer_index", "bits", "group_size", "mode")
_OWN_FORMAT = Device("metal", "", 0, "", 1, True)  # on anything but a CPU weights stay as they are in the file


def run(config: MakeStudentConfig, say: Reporter) -> dict[str, Any]:
    """Make the model; the result is what its ``import.json`` holds, as of an import, and ``layers``: those kept.

    Raises ModelError as loading does, ``student.shape``, ``student.positions``; ConfigError ``student.layers``;
    StorageError.
    """

    def fill(part: Path) -> dict[str, Any]:
        say.phase("load", detail=config.model.model.name)
        loaded = open_place(config.model, "auto", _OWN_FORMAT).loaded
        stack = _stack(loaded.model, loaded.config)
        kept = derived.kept(config.layers, len(stack.layers))
        about = _about(loaded.config, kept)
        _refuse_other_kinds(stack, kept, about)
        stack.layers = [stack.layers[i] for i in kept]
        say.phase("write", detail=f"{len(kept)} layers")
        _write(config.model.model, part, loaded.model, about)
        return _result(config, part, kept, say)

    return model_making.make(config.target.absolute(), say, fill)


def _stack(model: nn.Module, config: dict[str, Any]) -> nn.Module:
    """The module that holds the layers in a list."""
    count = _text(config).get(_COUNT)
    found = [m for m in model.modules() if isinstance(m.get("layers"), list) and len(m["layers"]) == count]
    if len(found) != 1:
        raise ModelError(
            "student.shape",
            f"Where the layers of a {config['model_type']} model lie is not known.",
            "Choose another model as student.",
        )
    return found[0]


def _text(config: dict[str, Any]) -> dict[str, Any]:
    """The part of config.json that describes the language model."""
    text = config.get("text_config")
    return text if isinstance(text, dict) and _COUNT in text else config


def _about(config: dict[str, Any], kept: list[int]) -> dict[str, Any]:
    """``config`` for these layers alone."""
    text, count = dict(_text(config)), _text(config)[_COUNT]
    for name in _BY_LAYER:
        if isinstance(text.get(name), list) and len(text[name]) == count:
            text[name] = [text[name][i] for i in kept]
    text[_COUNT] = len(kept)
    return text if _text(config) is config else {**config, "text_config": text}


def _refuse_other_kinds(stack: nn.Module, kept: list[int], about: dict[str, Any]) -> None:
    """In some families a layer's place decides what it does, such as every sixth one looking at the whole text."""
    model_class, args_class = mlx_models.architecture(about)
    try:
        made = _stack(model_class(args_class.from_dict(about)), about)
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, AssertionError) as error:
        raise _positions(f"The layers {str(kept)[:80]} alone make no {about['model_type']} model ({error}).") from None
    for place, (old, new) in enumerate(zip((stack.layers[i] for i in kept), made.layers, strict=True)):
        if _traits(old) != _traits(new):
            raise _positions(
                f"Layer {kept[place]} would do something else at place {place}: its place decides its kind."
            )


def _positions(message: str) -> ModelError:
    return ModelError(
        "student.positions", message, "Keep layers so that each kind stays where it is, or choose another model."
    )


def _traits(layer: nn.Module) -> dict[str, Any]:
    """Whatever is no weight and tells layers apart: parts, sizes, switches. A layer's own number does not."""
    found: dict[str, Any] = {}
    for path, module in layer.named_modules():
        found[path] = type(module).__name__.removeprefix("Quantized")
        for name, value in vars(module).items():
            if isinstance(value, bool | int | float | str) and name not in _NO_TRAIT and not name.startswith("_"):
                found[f"{path}.{name}"] = value
    return found


def _write(source: Path, part: Path, model: nn.Module, about: dict[str, Any]) -> None:
    for path in sorted(source.iterdir()):
        own = path.name in ("config.json", "README.md", model_making.MANIFEST) or path.name.startswith("model")
        if path.is_file() and not own and model_folder.MODEL.wanted(path.name):
            shutil.copyfile(path, part / path.name)
    write_json(part / "config.json", about)
    weights = dict(tree_flatten(model.parameters()))
    model_folder.need_room(part, sum(value.nbytes for value in weights.values()))
    mx.save_safetensors(str(part / "model.safetensors"), weights, {"format": "mlx"})


def _result(config: MakeStudentConfig, part: Path, kept: list[int], say: Reporter) -> dict[str, Any]:
    say.phase("check", detail="names, shapes and tokenizer")
    about, words = loading.inspect(part), tokenizer.load(part)
    return {
        "schema": SCHEMA,
        "path": str(config.target.absolute()),
        "name": config.name,
        "model_type": about.model_type,
        "parameters": about.parameters,
        "quantization": about.quantization,
        "files": model_folder.hashes(part, say),
        "license": model_folder.license_of(config.model.model),
        "source": f"layers of {config.model.model.name}",
        "revision": "",
        "context_length": about.context_length,
        "remote_code": [],
        "left_out": [],
        "has_chat_template": words.has_chat_template,
        "layers": kept,
    }
