"""Adapters in PEFT's form (``adapter_model.safetensors``, ``adapter_config.json``) into mlx-lm's, and back.

PEFT: ``base_model.model.<path>.lora_A.weight`` (rank, in), ``….lora_B.weight`` (out, rank),
``….lora_magnitude_vector`` (out,) for DoRA; embeddings ``lora_embedding_A`` (rank, tokens), ``lora_embedding_B``
(size, rank). mlx-lm has the transposed matrices and one ``scale`` for all of them; PEFT's is
``alpha / r``, or ``alpha / sqrt(r)`` with ``use_rslora``. Matrices are only turned, so one rank and one scale go
there and back bit for bit; others are brought into one (:func:`training.engine.tuning.adapters.stock_form`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from training.engine.catalog.adapters import matched, multiplier
from training.engine.config.imports import ExportPeftConfig
from training.engine.errors import ModelError, StorageError
from training.engine.folders import places
from training.engine.run.rundir import write_json
from training.engine.tuning import fuse
from training.engine.tuning.adapters import in_one_scale

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
_NAMES = {"lora_A": "lora_a", "lora_B": "lora_b", "lora_embedding_A": "lora_a", "lora_embedding_B": "lora_b"}
_ADAPTED = re.compile(
    r"(?P<path>.+)\.(?P<kind>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)"
    r"(\.default)?(\.weight)?"
)
_BLOCK = re.compile(r"(?:.*\.)?(?:layers|h|blocks)\.\d+\.(?P<key>.+)")
_PLAIN = re.compile(r"\^?[\w.]{1,200}")
_AS_IS = (True, False, None, "gaussian", "orthogonal", "eva")  # starts that leave the base as it is
_HINT = "Train it as plain LoRA or DoRA, or merge it with PEFT (merge_and_unload) and import the whole model."


def read(folder: Path) -> tuple[dict[str, Any], dict[str, mx.array]]:
    """The adapter in the PEFT ``folder`` as stock mlx-lm has it: ``adapter_config.json`` and arrays.

    Heads (``modules_to_save``) keep their names. Raises ModelError ``adapter.missing``, ``adapter.config_broken``,
    ``adapter.peft_unsupported``, ``model.safetensors_*``.
    """
    asked = places.read_json(folder / places.CONFIG)
    _refuse_other_kinds(asked)
    arrays: dict[str, mx.array] = {}
    for name, value in fuse.read_arrays(folder / WEIGHTS).items():
        path = _named(name.removeprefix(PREFIX))
        leaf = path.rpartition(".")[2]
        if path in arrays:
            raise places.broken(WEIGHTS, f"'{path[:100]}' stands there twice")
        turned = mx.contiguous(value.T) if leaf in ("lora_a", "lora_b") else value
        arrays[path] = value.reshape(-1) if leaf == "m" else turned
    ranks = {path: _rank(path, a) for path, a in arrays.items() if path.endswith(".lora_a")}
    if not ranks:
        raise places.broken(WEIGHTS, "there is no lora_A in it")
    scales = {path.removesuffix(".lora_a"): _scale(asked, path.removesuffix(".lora_a"), n) for path, n in ranks.items()}
    usual, rank = next(iter(scales.values())), max(ranks.values())
    keys = sorted({m["key"] if (m := _BLOCK.fullmatch(path)) else path for path in scales})
    config = {
        "fine_tune_type": "dora" if asked.get("use_dora") else "lora",
        "num_layers": -1,
        "lora_parameters": {"rank": rank, "scale": usual, "dropout": 0.0, "keys": keys},
    }
    return config, in_one_scale(arrays, rank, {path: scale / usual for path, scale in scales.items()})


def write(adapter: Path, target: Path, base_name: str = "") -> dict[str, Any]:
    """Write the adapter in the folder ``adapter`` into the new folder ``target`` in PEFT's form.

    Returns ``{"path", "r", "lora_alpha", "use_dora", "modules"}``. Raises ModelError ``adapter.peft_unsupported``
    for what PEFT cannot hold in one adapter (full weights, experts, an adapter on top of another), and as ``fuse``
    does; StorageError ``storage.write``.
    """
    parts = places.chain(adapter)
    if len(parts) > 1:
        raise _unsupported("it was trained on top of another adapter, and PEFT's files hold one")
    config, kind = parts[0].config, parts[0].config.get("fine_tune_type", "lora")
    if kind not in ("lora", "dora"):
        raise _unsupported("its weights were trained in full")
    scale = fuse.scale_of(parts[0])
    made, ranks, heads = _turned(fuse.read_arrays(parts[0].weights), config)
    r = config.get("r", config["lora_parameters"].get("rank"))
    r = r if r in ranks.values() else next(iter(ranks.values()))
    others = {path: rank for path, rank in ranks.items() if rank != r}
    described = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base_name, "inference_mode": True,
        "r": r, "lora_alpha": _whole(scale * r), "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": False,
        "use_rslora": False, "use_dora": kind == "dora", "init_lora_weights": True, "target_modules": sorted(ranks),
        "rank_pattern": others, "alpha_pattern": {path: _whole(scale * rank) for path, rank in others.items()},
        "modules_to_save": sorted(heads) or None,
    }  # fmt: skip
    try:
        target.mkdir(parents=True)
        mx.save_safetensors(str(target / WEIGHTS), made, {"format": "pt"})
    except (OSError, RuntimeError) as error:
        why = f"{target} could not be written: {error}."
        raise StorageError(
            "storage.write", why, "Choose a folder that is not there yet, on a disk with room."
        ) from None
    write_json(target / places.CONFIG, described)
    return {"path": str(target), "modules": len(ranks), **{k: described[k] for k in ("r", "lora_alpha", "use_dora")}}


def _turned(
    arrays: dict[str, mx.array], config: dict[str, Any]
) -> tuple[dict[str, mx.array], dict[str, int], set[str]]:
    """Arrays under PEFT's names and turned, the rank of each module, and the heads."""
    pattern = config.get("rank_pattern") or {}
    made: dict[str, mx.array] = {}
    ranks: dict[str, int] = {}
    heads: set[str] = set()
    for name, value in arrays.items():
        path, _, leaf = name.rpartition(".")
        if leaf not in fuse.LEAVES:
            heads.add(path)
            made[f"{PREFIX}{name}"] = value
        elif value.ndim > 2:
            raise _unsupported(f"{path[:100]} are experts, each with an adapter of its own")
        elif leaf == "m":
            made[f"{PREFIX}{path}.lora_magnitude_vector"] = value
        else:
            given = value.shape[1] if leaf == "lora_a" else value.shape[0]
            own = int(matched(pattern, path, config.get("r", given))) if pattern else given
            ranks[path] = min(given, own)  # beyond it there are zeros
            part = value[:, : ranks[path]] if leaf == "lora_a" else value[: ranks[path]]
            made[f"{PREFIX}{path}.{_peft_name(path, leaf)}"] = mx.contiguous(part.T)
    if not ranks:
        raise places.broken(places.WEIGHTS, "there is no lora_a in it")
    return made, ranks, heads


def _named(name: str) -> str:
    """mlx-lm's name for PEFT's."""
    if found := _ADAPTED.fullmatch(name):
        return f"{found['path']}.{_NAMES.get(found['kind'], 'm')}"
    if "lora_" in name:
        raise _unsupported(f"it holds '{name[:100]}'")
    return name.replace(".modules_to_save.default.", ".").replace(".modules_to_save.", ".")


def _peft_name(path: str, leaf: str) -> str:
    letter = leaf[-1].upper()
    is_table = path.rpartition(".")[2] in ("embed_tokens", "wte", "word_embeddings")
    return f"lora_embedding_{letter}" if is_table else f"lora_{letter}.weight"


def _rank(path: str, a: mx.array) -> int:
    if a.ndim != 2 or not a.shape[1]:
        raise places.broken(WEIGHTS, f"{path[:100]} has the shape {tuple(a.shape)}")
    return int(a.shape[1])


def _scale(asked: Mapping[str, Any], path: str, rank: int) -> float:
    pattern, alpha = asked.get("alpha_pattern") or {}, asked.get("lora_alpha", 8)
    alphas = [alpha, *pattern.values()] if isinstance(pattern, dict) else [None]
    if any(not isinstance(a, int | float) or isinstance(a, bool) or not 0 < a < 1e9 for a in alphas):
        raise places.broken(places.CONFIG, "lora_alpha and alpha_pattern are positive numbers")
    odd = next((name for name in pattern if not _PLAIN.fullmatch(name)), None)
    if odd is not None:
        raise _unsupported(f"its alpha_pattern has the expression '{odd[:80]}'; only plain names are read")
    # A name that begins with ^ is the whole path.
    whole = {name[1:]: value for name, value in pattern.items() if name.startswith("^")}
    found = whole.get(path, matched(pattern, path, alpha))
    return multiplier(found, rank, use_rslora=bool(asked.get("use_rslora")))


def _refuse_other_kinds(asked: Mapping[str, Any]) -> None:
    if asked.get("peft_type") != "LORA":
        raise _unsupported(f"it is of the kind {str(asked.get('peft_type'))[:40]!r}")
    for name in ("fan_in_fan_out", "lora_bias", "use_qalora", "layer_replication", "target_parameters",
                 "trainable_token_indices", "alora_invocation_tokens", "arrow_config", "use_bdlora", "kasa_config",
                 "monteclora_config", "velora_config"):  # fmt: skip
        if asked.get(name):
            raise _unsupported(f"it uses {name}")
    if (start := asked.get("init_lora_weights")) not in _AS_IS:
        raise _unsupported(f"init_lora_weights {str(start)[:40]!r} changed the base model itself")


def _unsupported(why: str) -> ModelError:
    return ModelError("adapter.peft_unsupported", f"The adapter cannot be converted: {why}.", _HINT)


def _whole(number: float) -> int | float:
    return int(number) if number == int(number) else number


def export(config: ExportPeftConfig, _say: object) -> dict[str, Any]:
    """The command ``export-peft``; its answer is what :func:`write` returns."""
    return write(config.adapter, config.target, config.base_model_name)


def convert(folder: Path) -> None:
    """Turn the PEFT adapter in ``folder`` into mlx-lm's form in its place."""
    config, arrays = read(folder)
    mx.save_safetensors(str(folder / places.WEIGHTS), arrays, {"format": "mlx"})
    (folder / WEIGHTS).unlink()
    (folder / places.CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
