"""Measurements are kept by kind, the newest ones, and a broken file costs nothing but them."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.engine.planning import calibration
from training.engine.planning.memory_plan import Calibration

KIND = calibration.key("cpu", "llama", grad_checkpoint=False)


def test_the_middle_and_the_largest_distance(tmp_path: Path) -> None:
    for ratio in (1.0, 1.2, 2.0):
        calibration.add(tmp_path / "new", KIND, ratio)
    known = calibration.read(tmp_path / "new", KIND)
    assert (known.runs, known.ratio) == (3, 1.2)
    assert known.error == pytest.approx(2 / 1.2 - 1)


def test_kinds_learn_apart(tmp_path: Path) -> None:
    calibration.add(tmp_path, KIND, 1.5)
    other = calibration.key("cpu", "llama", grad_checkpoint=True)
    assert calibration.read(tmp_path, other) == Calibration()
    assert calibration.read(tmp_path, KIND) == Calibration(1, 1.5, None)


def test_only_the_newest_count(tmp_path: Path) -> None:
    for ratio in [9.0] * 5 + [1.0] * calibration.KEEP:
        calibration.add(tmp_path, KIND, ratio)
    assert calibration.read(tmp_path, KIND) == Calibration(calibration.KEEP, 1.0, 0.0)


@pytest.mark.parametrize("text", ["", "[]", '{"ratios": 3}', '{"ratios": {"cpu/llama/plain": ["x"]}}', "{"])
def test_a_broken_file_is_no_measurement(text: str, tmp_path: Path) -> None:
    (tmp_path / "memory.json").write_text(text)
    assert calibration.read(tmp_path, KIND) == Calibration()
    calibration.add(tmp_path, KIND, 1.1)
    assert calibration.read(tmp_path, KIND).runs == 1


def test_nonsense_is_not_kept(tmp_path: Path) -> None:
    for ratio in (0.0, 1e9, float("nan")):
        calibration.add(tmp_path, KIND, ratio)
    calibration.add(None, KIND, 1.0)
    assert not (tmp_path / "memory.json").exists()


def test_a_folder_that_cannot_be_written_is_no_reason_to_end(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    calibration.add(tmp_path / "file", KIND, 1.0)
