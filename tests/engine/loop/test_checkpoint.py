"""Checkpoints: complete or absent, and a training that goes on bit for bit."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine import runs
from training.engine.errors import Exit
from training.engine.loop import checkpoint
from training.engine.loop.checkpoint import Position

ADAPTERS = {
    "lora": {"name": "lora", "rank": 4, "dropout": 0.2},
    "dora on one layer": {"name": "dora", "rank": 4, "dropout": 0.2, "num_layers": 1},
    "full": {"name": "full", "num_layers": 1},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.data(tmp_path_factory.mktemp("data"), train=runs.rows(14), valid=runs.rows(3))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path, data: Path) -> tuple[Path, dict]:
    """A finished run with checkpoints at 2, 4 and 6, to look at."""
    root = tmp_path_factory.mktemp("ran")
    config = runs.request(tiny_llama, data, save_every=2)
    assert runs.run(root, config) == Exit.FINISHED
    return root, config


@pytest.fixture
def copy(ran: tuple[Path, dict], tmp_path: Path) -> tuple[Path, dict]:
    """The same run again, to spoil."""
    subprocess.run(["cp", "-a", str(ran[0]), str(tmp_path / "run")], check=True)
    return tmp_path / "run", ran[1]


@pytest.mark.parametrize("name", ADAPTERS)
def test_eight_steps_are_three_and_a_kill_and_five(name: str, tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    # 7 micro-batches an epoch, 3 a step: every update lies elsewhere in the epoch, many across its border.
    config = runs.request(tiny_llama, data, adapter=ADAPTERS[name], iters=8, grad_accumulation_steps=3, save_every=3)
    config |= {"steps_per_eval": 4, "learning_rate": 1e-2, "keep_checkpoints": 9}
    assert runs.run(tmp_path / "a", config) == Exit.FINISHED
    assert runs.run(tmp_path / "b", config, halt=(5, 1), how=runs.Killed()) == Exit.BUG
    assert runs.run(tmp_path / "b", config) == Exit.FINISHED
    assert min(e.fields["step"] for e in runs.events(tmp_path / "b") if e.event == "metrics") > 3
    runs.assert_same(tmp_path / "a", tmp_path / "b", 8)


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_stop_within_an_accumulation_changes_nothing(name: str, tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    config = runs.request(tiny_llama, data, adapter=ADAPTERS[name], grad_accumulation_steps=4, learning_rate=1e-2)
    assert runs.run(tmp_path / "a", config) == Exit.FINISHED
    assert runs.run(tmp_path / "b", config, halt=(3, 2)) == Exit.STOPPED
    half = checkpoint.listed(tmp_path / "b" / "checkpoints")[0]
    assert half.name == "0000003-2"
    assert any(key.startswith("grad.") for key in checkpoint._arrays(half / checkpoint.STATE))
    assert runs.run(tmp_path / "b", config) == Exit.FINISHED
    runs.assert_same(tmp_path / "a", tmp_path / "b", 6)


def test_a_point_over_several_steps_survives_a_stop(tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    config = runs.request(tiny_llama, data, steps_per_report=4, iters=8)
    runs.run(tmp_path / "a", config)
    runs.run(tmp_path / "b", config | {"save_every": 3}, halt=(4, 2), how=runs.Killed())
    assert runs.run(tmp_path / "b", config | {"save_every": 3}) == Exit.FINISHED
    assert runs.points(tmp_path / "a") == runs.points(tmp_path / "b")


def test_kill_9_of_the_engine_in_mid_step(tiny_llama: Path, tmp_path: Path) -> None:
    data = runs.data(tmp_path / "data", train=[runs.chat(f"Tell me of {i}.", f"It is {i} " * 20) for i in range(24)])
    config = runs.request(tiny_llama, data, iters=20, batch_size=3, grad_accumulation_steps=3, save_every=5)
    config["adapter"] = {"name": "lora", "dropout": 0.1}
    killed = runs.start(tmp_path / "b", config)
    runs.until(tmp_path / "b", runs.is_step(10), killed)
    killed.kill()
    assert killed.wait(30) == -signal.SIGKILL
    assert 10 <= max(runs.points(tmp_path / "b")) < 20
    assert runs.start(tmp_path / "b", config).wait(120) == Exit.FINISHED
    assert min(e.fields["step"] for e in runs.events(tmp_path / "b") if e.event == "metrics") > 5
    assert runs.start(tmp_path / "a", config).wait(120) == Exit.FINISHED
    runs.assert_same(tmp_path / "a", tmp_path / "b", 20)


@pytest.mark.parametrize("file", ["adapters.safetensors", "optimizer.safetensors", "manifest.json", "trainer.json"])
def test_a_flipped_byte_is_passed_over(file: str, copy: tuple[Path, dict]) -> None:
    root, config = copy
    broken = root / "checkpoints" / "0000006" / file
    raw = bytearray(broken.read_bytes())
    raw[len(raw) // 2] ^= 1
    broken.write_bytes(raw)
    assert runs.run(root, config) == Exit.FINISHED
    said = [e.fields["message"] for e in runs.events(root) if e.event == "log"]
    assert any("0000006 is passed over" in line for line in said)
    assert "Goes on from step 4 of 6." in said
    assert checkpoint.fault_of(root / "checkpoints" / "0000006") is None  # done anew
    assert (root / "checkpoints" / "broken-0000006").is_dir()  # and nothing was thrown away


def test_without_a_manifest_it_does_not_exist(copy: tuple[Path, dict]) -> None:
    root, config = copy
    (root / "checkpoints" / "0000006" / "manifest.json").unlink()
    assert [p.name for p in checkpoint.listed(root / "checkpoints")] == ["0000004", "0000002"]
    assert runs.run(root, config) == Exit.FINISHED
    assert runs.points(root)[6] > 0


def test_half_written_and_half_removed_folders_are_swept(tmp_path: Path) -> None:
    for name in (".part-0000004", "0000002", "notes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapters.safetensors").write_bytes(b"half")
    checkpoint.sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes"]


def test_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    for name in ("0000001", "0000002", "0000003", "0000003-1", "0000004"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}")
    gone = checkpoint.surplus(tmp_path, keep=2, best_step=1)
    assert sorted(p.name for p in gone) == ["0000002", "0000003"]


def test_the_keep_rule_in_a_run(ran: tuple[Path, dict], tmp_path: Path) -> None:
    config = ran[1] | {"keep_checkpoints": 1, "steps_per_eval": 1, "save_every": 1, "learning_rate": 1e-2}
    assert runs.run(tmp_path / "r", config) == Exit.FINISHED
    best = runs.last(tmp_path / "r").fields["result"]["best_step"]
    left = {int(p.name) for p in checkpoint.listed(tmp_path / "r" / "checkpoints")}
    assert left == {best, 6}
    removed = [e.fields["path"] for e in runs.events(tmp_path / "r") if e.event == "removed"]
    assert len(removed) == len(set(removed)) == 6 - len(left)


def test_a_checkpoint_that_was_not_told_is_told_by_the_next_attempt(copy: tuple[Path, dict]) -> None:
    root, config = copy
    assert runs.run(root, config) == Exit.FINISHED
    told = [e.fields for e in runs.events(root) if e.event == "checkpoint"]
    assert [(t["path"], t["best"]) for t in told] == [("checkpoints/0000006", told[0]["best"])]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"adapter": {"name": "lora", "rank": 3}}, "checkpoint.other_settings"),
        ({"batch_size": 3}, "checkpoint.other_settings"),
        ({"seed": 1}, "checkpoint.other_settings"),
    ],
)
def test_other_settings_are_refused(change: dict, code: str, copy: tuple[Path, dict]) -> None:
    root, config = copy
    assert runs.run(root, config | change) == Exit.MODEL
    assert runs.last(root).fields["code"] == code


def test_another_model_or_data_set_is_refused(copy: tuple[Path, dict], tiny_qwen3: Path, tmp_path: Path) -> None:
    from tests.fakes import tiny

    root, config = copy
    assert runs.run(root, config | {"model": str(tiny_qwen3)}) == Exit.MODEL
    assert runs.last(root).fields["code"] == "checkpoint.other_model"
    # The same architecture, so the same config.json, with other weights.
    assert runs.run(root, config | {"model": str(tiny.make(tmp_path / "m", seed=9))}) == Exit.MODEL
    assert runs.last(root).fields["code"] == "checkpoint.other_model"
    other = runs.data(tmp_path / "d", train=runs.rows(13))
    assert runs.run(root, config | {"data": str(other)}) == Exit.MODEL
    assert runs.last(root).fields["code"] == "checkpoint.other_data"


def test_a_later_versions_fields_are_passed_over(copy: tuple[Path, dict]) -> None:
    folder = copy[0] / "checkpoints" / "0000006"
    path, manifest = folder / "trainer.json", json.loads((folder / "manifest.json").read_text())
    path.write_text(json.dumps(json.loads(path.read_text()) | {"of_tomorrow": 1}))
    manifest["files"]["trainer.json"] = checkpoint._file_facts(path)
    del manifest["digest"]
    (folder / "manifest.json").write_text(json.dumps(manifest | {"digest": checkpoint._digest(manifest)}))
    assert runs.run(*copy) == Exit.FINISHED
    assert not runs.points(copy[0]).keys() - set(range(1, 7))


Disk = tuple[Path, Callable[[], None], Callable[[], None]]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A folder, and how to fill and free its disk: a small tmpfs where that is allowed, else a limit on files."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode == 0:
        filler = folder / "filler"
        yield folder, lambda: fill(filler), filler.unlink
        subprocess.run(["umount", "-l", str(folder)], check=True)
    else:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

        def limit(size: int) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

        yield folder, lambda: limit(30_000), lambda: limit(soft)
        limit(soft)


def fill(path: Path) -> None:
    """Leave 32 KiB on a disk."""
    with open(path, "wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        file.truncate(path.stat().st_size - 32768)


def test_a_full_disk_keeps_what_there_is(disk: Disk, tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    folder, full, free = disk
    config = runs.request(tiny_llama, data, save_every=2)
    code = runs.run(folder / "run", config, echo=lambda e: full() if e.event == "checkpoint" else None)
    free()
    assert code == Exit.STORAGE
    assert runs.last(folder / "run").fields["code"] == "storage.checkpoint"
    assert [p.name for p in (folder / "run" / "checkpoints").iterdir()] == ["0000002"]
    assert runs.run(folder / "run", config) == Exit.FINISHED
    assert runs.run(tmp_path / "a", config) == Exit.FINISHED
    runs.assert_same(tmp_path / "a", folder / "run", 6)


def test_names_sort_by_step_then_micro_batch() -> None:
    names = [checkpoint.name_of(Position(step=s, micro=m)) for s, m in ((10, 2), (9, 0), (10, 11), (10, 0))]
    ordered = sorted(names, key=lambda name: checkpoint.place_of(Path(name)))
    assert ordered == ["0000009", "0000010", "0000010-2", "0000010-11"]


def test_folder_and_files_are_for_their_owner_only(ran: tuple[Path, dict]) -> None:
    assert os.stat(ran[0] / "checkpoints" / "0000006").st_mode & 0o077 == 0
