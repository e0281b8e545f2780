"""Frozen lower blocks computed once: the same numbers, also after a kill, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest

from tests.engine import runs
from tests.fakes import families
from training.engine.catalog.adapters import ADAPTERS
from training.engine.errors import Exit, StorageError
from training.engine.rows import replay
from training.engine.tuning import adapters


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    return runs.data(folder, train=runs.rows(11), valid=runs.rows(5), test=runs.rows(3))


def request(model: Path, data: Path, **settings: object) -> dict[str, object]:
    adapter = {"name": "lora", "num_layers": 1, "rank": 4}
    more = {"adapter": adapter, "epochs": 3, "iters": None, "steps_per_eval": 5, "learning_rate": 1e-2}
    return runs.request(model, data, **more, **settings)


def test_losses_and_weights_are_those_without_it(tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    for name, cached in (("plain", False), ("cached", True)):
        config = request(tiny_llama, data, cache_activations=cached)
        assert runs.run(tmp_path / name, config) == Exit.FINISHED
    plain, cached_points = (runs.points(tmp_path / name) for name in ("plain", "cached"))
    assert plain == pytest.approx(cached_points, rel=1e-5)
    one, other = (runs.arrays(tmp_path / name, max(plain)) for name in ("plain", "cached"))
    assert max(mx.abs(one[k] - other[k]).max().item() for k in one) < 1e-4


def test_a_kill_in_the_second_epoch_changes_no_bit(tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    config = request(tiny_llama, data, cache_activations=True, save_every=4)
    assert runs.run(tmp_path / "whole", config) == Exit.FINISHED
    assert runs.run(tmp_path / "killed", config, halt=(9, 0), how=runs.Killed()) == Exit.BUG
    assert runs.run(tmp_path / "killed", config) == Exit.FINISHED
    last = max(runs.points(tmp_path / "whole"))
    one, other = (runs.arrays(tmp_path / name, last) for name in ("whole", "killed"))
    assert all(mx.array_equal(one[k], other[k]) for k in one)


def test_nothing_is_left_in_the_run_folder(tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    assert runs.run(tmp_path / "run", request(tiny_llama, data, cache_activations=True)) == Exit.FINISHED
    assert max(p.stat().st_size for p in (tmp_path / "run").iterdir()) < 1 << 16


def test_it_says_when_there_is_nothing_to_cache(tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    config = runs.request(tiny_llama, data, iters=1, cache_activations=True)
    assert runs.run(tmp_path / "run", config) == Exit.FINISHED
    said = [e.fields["message"] for e in runs.events(tmp_path / "run") if e.event == "log"]
    assert any("Activations are not cached" in line for line in said)


@pytest.mark.parametrize("family", [*families.SHARING, *families.APART])
def test_families_have_a_seam_or_say_that_they_have_none(family: str) -> None:
    model = families.make(family)
    adapters.apply(model, ADAPTERS["lora"].settings(name="lora", num_layers=1))
    found = replay.seam(model)
    assert (found.depth if found else None) == 1


def test_a_full_disk_is_a_sentence(
    tiny_llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100})())
    assert runs.run(tmp_path / "run", request(tiny_llama, data, cache_activations=True)) == StorageError.exit_code
    assert runs.last(tmp_path / "run").fields["code"] == "storage.activations"
