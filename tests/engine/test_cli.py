"""The engine as a program: exit codes of every family, and nothing of Django in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engine import runs
from tests.fakes import tiny
from training.engine.cli import main
from training.engine.errors import Exit


def engine(root: Path, config: Any) -> int:
    """Train through the command line, in this process."""
    path = root.with_name(root.name + ".json")
    path.write_text(json.dumps(config))
    return main(["train", "--config", str(path), "--run-dir", str(root), "--quiet"])


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("training.engine.run.session.Session.listen", lambda self: None)  # pytest has its own signals
    return tmp_path / "run"


def code(root: Path) -> str:
    return str(runs.last(root).fields["code"])


def test_a_wrong_request_is_2_with_all_its_problems(run: Path) -> None:
    assert engine(run, {"optimizer": "addam", "iters": 0}) == Exit.CONFIG
    problems = runs.last(run).fields["problems"]
    assert {p["code"] for p in problems} == {"optimizer.unknown", "config.greater_than_equal", "config.missing"}
    assert len(problems) == 4
    assert runs.last(run).fields["trace"] == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "data.empty"),
        (json.dumps(runs.chat("a", "b")) + "\nbroken\n", "data.row"),
        (json.dumps({"messages": [{"role": "user", "content": "only a question"}]}) + "\n", "data.nothing_trained"),
        (None, "data.empty"),
    ],
)
def test_wrong_data_is_3(text: str | None, expected: str, run: Path, tiny_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    if text is not None:
        (tmp_path / "data" / "train.jsonl").write_text(text)
    assert engine(run, runs.request(tiny_llama, tmp_path / "data")) == Exit.DATA
    assert code(run) == expected
    assert runs.last(run).fields["hint"]


def spoil_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").unlink()


def spoil_weights(model: Path) -> None:
    raw = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(raw[: len(raw) // 2])


def shrink_vocabulary(model: Path) -> None:
    path = model / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"vocab_size": 200}))
    weights = runs.mx.load(str(model / "model.safetensors"))
    weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"][:200]
    runs.mx.save_safetensors(str(model / "model.safetensors"), weights)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (spoil_tokenizer, "model.no_tokenizer"),
        (spoil_weights, "model.safetensors_truncated"),
        (shrink_vocabulary, "model.tokenizer_too_large"),
    ],
)
def test_a_wrong_model_is_4(spoil: Any, expected: str, run: Path, tmp_path: Path) -> None:
    model = tiny.make(tmp_path / "model")
    spoil(model)
    assert engine(run, runs.request(model, runs.data(tmp_path / "data"))) == Exit.MODEL
    assert code(run) == expected


def test_an_unknown_module_is_2(run: Path, tiny_llama: Path, tmp_path: Path) -> None:
    config = runs.request(tiny_llama, runs.data(tmp_path / "data"), adapter={"keys": ["nowhere"]})
    assert engine(run, config) == Exit.CONFIG
    assert code(run) == "adapter.no_module"


def test_a_locked_run_is_7_and_left_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from training.engine.run.rundir import hold

    fd = hold(run / "run.lock")
    assert fd is not None
    assert engine(run, {}) == Exit.STORAGE
    assert "Another engine is working" in capsys.readouterr().err
    assert [p.name for p in run.iterdir()] == ["run.lock"]
    os.close(fd)


@pytest.mark.parametrize("attempt", ["0", "-1", "x"])
def test_a_strange_attempt_is_refused(attempt: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["train", "--config", "c", "--run-dir", str(tmp_path), "--attempt", attempt])
    assert refused.value.code == Exit.CONFIG


def test_attempts_count_on(run: Path) -> None:
    for _ in range(2):
        assert engine(run, {}) == Exit.CONFIG
        # In one process only: an ended process lets go of its lock by itself.
        (run / "run.lock").unlink()
    assert sorted(p.name for p in (run / "attempts").iterdir()) == ["1", "2"]


PROGRAM = """
import sys
from training.engine.cli import main
code = main(sys.argv[1:])
known = {name.partition(".")[0] for name in sys.modules}
assert not known & {"django", "huey", "transformers", "datasets", "pyarrow", "torch"}, known
sys.exit(code)
"""


def test_a_training_needs_neither_django_nor_transformers(tiny_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps(runs.request(tiny_llama, runs.data(tmp_path / "data"), iters=1)))
    command = [sys.executable, "-c", PROGRAM, "train", "--config", str(tmp_path / "c.json"), "--run-dir"]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    done = subprocess.run([*command, str(tmp_path / "r")], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == Exit.FINISHED, done.stderr
    assert "finished result=" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="a Mac brings its own fast BLAS")
def test_the_engine_takes_the_fast_blas_and_survives_a_closed_stdout(tiny_llama: Path, tmp_path: Path) -> None:
    config = runs.request(tiny_llama, runs.data(tmp_path / "data"), iters=2)
    (tmp_path / "c.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "training.engine", "train", "--config", str(tmp_path / "c.json"), "--run-dir"]
    # `| head`, whose reader is gone before the first line.
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*command, str(tmp_path / "r")], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (Exit.FINISHED, b"")
    machine = next(e for e in runs.events(tmp_path / "r") if e.event == "machine")
    assert machine.fields["blas"].startswith("OpenBLAS")
    assert runs.last(tmp_path / "r").event == "finished"
