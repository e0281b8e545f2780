"""Imports end in a folder that stock mlx_lm opens, or in a sentence and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
import numpy as np
import pytest

from tests.engine.conftest import SMOLLM_SHA256
from tests.fakes import gguf_file
from training.engine.commands import import_model
from training.engine.config.imports import ImportModelConfig
from training.engine.errors import EngineError, StorageError
from training.engine.foreign import model_folder, model_making
from training.engine.generation import generate
from training.engine.generation.rollout import Rollout
from training.engine.machine.device import Device
from training.engine.models import loading, tokenizer
from training.engine.report import Silent

CPU = Device("cpu", "test", 1 << 30, "", 1, True)
IDS = mx.array([[5, 260, 17, 99, 3, 250, 40]])


def asked(source: dict[str, Any], target: Path) -> ImportModelConfig:
    return ImportModelConfig.model_validate({"schema": 1, "source": source, "target": target})


def take(source: dict[str, Any], target: Path) -> dict[str, Any]:
    return import_model.run(asked(source, target), Silent())


def code_of(source: dict[str, Any], target: Path) -> str:
    with pytest.raises(EngineError) as error:
        take(source, target)
    assert error.value.message.endswith(".")
    assert error.value.hint
    assert not target.exists()
    assert not list(target.parent.glob("*.part"))
    return error.value.code


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models" / "new"


@pytest.fixture
def copy(tiny_llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llama, tmp_path / "source"))


@pytest.mark.parametrize("family", ["tiny_llama", "tiny_qwen3"])
@pytest.mark.parametrize(("kind", "close"), [("F16", 0.02), ("Q8_0", 0.4)])
def test_a_gguf_file_answers_as_its_model_did(
    *, family: str, kind: str, close: float, tmp_path: Path, target: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(family)
    path = gguf_file.from_folder(folder, tmp_path / "m.gguf", kind)
    result = take({"kind": "gguf", "path": path}, target)
    before = loading.load(folder, "auto", CPU).model(IDS)
    after = loading.load(target, "auto", CPU).model(IDS)
    assert mx.abs(after - before).max().item() < close
    stock, words = mlx_lm.load(str(target))
    assert mx.abs(stock(IDS) - after).max().item() < 0.1
    assert words.encode("the thing", add_special_tokens=False) == tokenizer.load(folder).encode("the thing")
    assert (result["license"], result["has_chat_template"], result["context_length"]) == ("apache-2.0", True, 2048)


def test_the_result_says_what_lies_there(tiny_quantised: Path, target: Path) -> None:
    result = take({"kind": "folder", "path": tiny_quantised}, target)
    assert result["quantization"] == {"bits": 4, "group_size": 32}
    assert result["model_type"] == "llama"
    assert result["files"].keys() == {p.name for p in target.iterdir()} - {model_making.MANIFEST}
    assert result["bytes"] == sum((target / name).stat().st_size for name in result["files"])
    assert json.loads((target / model_making.MANIFEST).read_text()) == result
    assert (target / "model.safetensors").read_bytes() == (tiny_quantised / "model.safetensors").read_bytes()


def test_a_second_run_finds_the_first(tiny_llama: Path, target: Path) -> None:
    source = {"kind": "folder", "path": tiny_llama}
    assert take(source, target) == take(source, target)


def test_a_foreign_folder_in_the_way_is_left_alone(tiny_llama: Path, target: Path) -> None:
    target.mkdir()
    (target / "mine.txt").write_text("x")
    with pytest.raises(StorageError) as error:
        take({"kind": "folder", "path": tiny_llama}, target)
    assert error.value.code == "storage.exists"
    assert (target / "mine.txt").read_text() == "x"


def test_a_killed_import_leaves_nothing_and_can_be_repeated(tiny_llama: Path, target: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from training.engine.commands import import_model; "
        "from training.engine.foreign import model_folder; "
        "from training.engine.report import Silent; from training.engine.config.imports import ImportModelConfig; "
        "model_folder.flush = lambda folder: (print('built', flush=True), time.sleep(60)); "
        f"import_model.run(ImportModelConfig.model_validate({{'schema': 1, 'target': {str(target)!r}, "
        f"'source': {{'kind': 'folder', 'path': {str(tiny_llama)!r}}}}}), Silent())"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"built\n"
        os.kill(process.pid, signal.SIGKILL)
    assert not target.exists()
    take({"kind": "folder", "path": tiny_llama}, target)
    assert [p.name for p in target.parent.iterdir()] == ["new"]


def test_a_wrong_checksum_is_refused(tiny_llama: Path, tmp_path: Path, target: Path) -> None:
    path = gguf_file.from_folder(tiny_llama, tmp_path / "m.gguf")
    assert code_of({"kind": "gguf", "path": path, "sha256": "0" * 64}, target) == "model.checksum"


def test_a_cut_gguf_file_is_refused(tiny_llama: Path, tmp_path: Path, target: Path) -> None:
    path = gguf_file.from_folder(tiny_llama, tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes()[:-1000])
    assert code_of({"kind": "gguf", "path": path}, target) == "model.gguf_truncated"


def test_a_gguf_file_that_lacks_a_layer_is_refused(tiny_llama: Path, tmp_path: Path, target: Path) -> None:
    config = json.loads((tiny_llama / "config.json").read_text())
    entries = gguf_file.metadata(tiny_llama, config) | {"llama.block_count": 3}
    whole = gguf_file.from_folder(tiny_llama, tmp_path / "whole.gguf", "F32")
    tensors = {}
    for name, value in mx.load(str(whole)).items():
        tensors[name] = (np.array(value), "F32")
    path = gguf_file.write(tmp_path / "m.gguf", entries, tensors)
    assert code_of({"kind": "gguf", "path": path}, target) == "model.weights_missing"


def edit(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_programs_and_pickles_are_left_out_and_named(copy: Path, target: Path) -> None:
    for name in ("modeling_x.py", "pytorch_model.bin", "optimizer.pt", "notes.xyz"):
        (copy / name).write_bytes(b"x")
    (copy / "onnx").mkdir()
    (copy / "onnx" / "model.onnx").write_bytes(b"x")
    (copy / "README.md").write_text("---\ntags: [a]\nlicense: mit\n---\n# text\nlicense: none\n")
    edit(copy, "config.json", auto_map={"AutoModel": "modeling_x.X"})
    result = take({"kind": "folder", "path": copy}, target)
    assert result["remote_code"] == ["config.json: auto_map", "modeling_x.py"]
    assert result["left_out"] == [
        "modeling_x.py", "notes.xyz", "onnx/model.onnx", "optimizer.pt", "pytorch_model.bin",
    ]  # fmt: skip
    assert result["license"] == "mit"
    assert not {"modeling_x.py", "pytorch_model.bin"} & {p.name for p in target.iterdir()}


def test_links_out_of_the_folder_are_refused(copy: Path, tmp_path: Path, target: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    (copy / "extra.json").symlink_to(secret)
    assert code_of({"kind": "folder", "path": copy}, target) == "model.link"
    (copy / "extra.json").unlink()
    os.link(secret, copy / "extra.json")
    assert code_of({"kind": "folder", "path": copy}, target) == "model.link"
    (copy / "extra.json").unlink()
    os.mkfifo(copy / "extra.json")
    assert code_of({"kind": "folder", "path": copy}, target) == "model.link"


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def hide_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def hide_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def only_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def part_missing(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-2.safetensors"}}')


def broken_json(folder: Path) -> None:
    (folder / "generation_config.json").write_text("{")


def broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


def own_code(folder: Path) -> None:
    edit(folder, "config.json", model_file="x.py")


@pytest.mark.parametrize(
    ("hurt", "code"),
    [
        (cut_weights, "model.safetensors_truncated"),
        (hide_tokenizer, "model.no_tokenizer"),
        (hide_config, "model.no_config"),
        (only_pickle, "model.pickle"),
        (no_weights, "model.no_weights"),
        (part_missing, "model.weights_missing"),
        (broken_json, "model.json_broken"),
        (broken_tokenizer, "model.tokenizer_broken"),
        (own_code, "model.remote_code"),
    ],
)
def test_a_broken_folder_is_refused_by_name(hurt: Any, code: str, copy: Path, target: Path) -> None:
    hurt(copy)
    assert code_of({"kind": "folder", "path": copy}, target) == code


def test_a_missing_folder_is_named(tmp_path: Path, target: Path) -> None:
    assert code_of({"kind": "folder", "path": tmp_path / "none"}, target) == "model.folder_missing"


def test_a_disk_without_room_is_named_before_copying(
    tiny_llama: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_folder, "_RESERVE", 1 << 60)
    assert code_of({"kind": "folder", "path": tiny_llama}, target) == "storage.full"


@pytest.mark.smollm
def test_smollm_knows_the_capital_of_france(smollm_gguf: Path, target: Path) -> None:
    started = time.monotonic()
    result = take({"kind": "gguf", "path": smollm_gguf, "sha256": SMOLLM_SHA256}, target)
    assert time.monotonic() - started < 60
    assert result["parameters"] == 134_515_008
    loaded, words = loading.load(target, "auto", CPU), tokenizer.load(target)
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    ids = words.encode(words.render(chat, add_generation_prompt=True))
    asked = Rollout(loaded.model, words.eos_ids)
    assert "Paris" in generate.answers(asked, words, [ids], 24)[0].text
    stock, theirs = mlx_lm.load(str(target))
    assert theirs.apply_chat_template(chat, add_generation_prompt=True) == ids
    # Stock computes with the packed base; in its own float16 that takes minutes on a CPU, and
    # differs by rounding (0.2 on average beside logits of 20).
    stock.set_dtype(mx.float32)
    few = mx.array([words.encode("The capital of France is the city of")])
    ours, other = loaded.model(few)[0], stock(few)[0]
    assert mx.abs(ours - other).max().item() < 0.01
    assert words.decode([int(mx.argmax(other[-1]).item())]) == " Paris"
