"""Takes what is harmless out of a foreign model folder, and looks after the files of ours."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from training.engine.errors import ModelError, StorageError
from training.engine.folders import safetensors_header
from training.engine.models.tokenizer import read_object
from training.engine.report import Reporter

MAX_ENTRIES = 10_000  # in a foreign folder, all levels
MAX_SMALL = 512 << 20  # bytes of a file that holds no weights
_BLOCK = 8 << 20
_RESERVE = 256 << 20  # bytes that stay free on the disk

_WEIGHTS = re.compile(r"model.*\.safetensors")
_WANTED = re.compile(
    r"model.*\.safetensors|[\w.\-]+\.json|[\w.\-]+\.jinja|tokenizer\.model|merges\.txt|"
    r"(README|LICENSE|LICENCE|NOTICE|USE_POLICY)[\w.\-]*"
)
_PICKLE = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".msgpack", ".h5")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a model came from, and what of it was not taken."""

    name: str
    source: str  # gguf:<file>, folder:<path> or hub:<owner/name>
    revision: str = ""  # a commit, or the file's SHA-256
    license: str = ""
    remote_code: list[str] = field(default_factory=list)  # programs in the folder: never taken, never run
    left_out: list[str] = field(default_factory=list)  # other files that were not taken


@dataclass(frozen=True, slots=True)
class Wish:
    """What is taken from a source: which names, whether they are enough, whether what they hold is sound."""

    wanted: Callable[[str], bool]
    refuse_missing: Callable[[str, list[str], list[str]], None]
    refuse_broken: Callable[[Path, list[str]], None]


def wanted(name: str) -> bool:
    """Whether a file of this name, at the top of a model folder, is taken."""
    return _WANTED.fullmatch(name) is not None


def copy(source: Path, part: Path, say: Reporter, wish: Wish | None = None) -> Origin:
    """Copy the known files of the folder ``source`` into ``part``, each one checked first.

    Without a ``wish`` those of a model. Links that lead out of the folder are refused; programs, pickles and unknown
    files are left out and named. Raises ModelError.
    """
    if not source.is_dir():
        raise ModelError("model.folder_missing", f"There is no folder {source}.", "Check the path.")
    wish = wish or MODEL
    paths = _files(source, wish)
    names = sorted(p.name for p in paths if p.parent == source and wish.wanted(p.name))
    wish.refuse_missing(source.name, names, [p.name for p in paths])
    wish.refuse_broken(source, names)
    total = sum((source / name).stat().st_size for name in names)
    need_room(part, total)
    done = 0
    for name in names:
        done = _copy(source / name, part / name, done, total, say)
    others = sorted(str(p.relative_to(source)) for p in paths if p.parent != source or p.name not in names)
    return Origin(
        name=source.resolve().name,
        source=f"folder:{source}",
        license=license_of(part),
        remote_code=remote_code(part, others),
        left_out=others,
    )


def refuse_missing(model: str, names: list[str], all_names: list[str]) -> None:
    """Whether the files ``names`` make a model at all, by their names alone. Raises ModelError."""
    if "config.json" not in names:
        raise ModelError(
            "model.no_config",
            f"{model} has no config.json.",
            "Give the folder that holds config.json, tokenizer.json and the safetensors files.",
        )
    if "tokenizer.json" not in names:
        raise ModelError(
            "model.no_tokenizer",
            f"{model} has no tokenizer.json.",
            "Put the model's tokenizer.json beside config.json; tokenizer.model alone is not enough.",
        )
    if not any(_WEIGHTS.fullmatch(name) for name in names):
        pickles = [name for name in all_names if name.endswith(_PICKLE)]
        if pickles:
            raise ModelError(
                "model.pickle",
                f"The weights are in {pickles[0]}, a format that can run programs when it is opened.",
                "Take the safetensors files of this model; nearly every model has them.",
            )
        raise ModelError(
            "model.no_weights", f"{model} has no model*.safetensors.", "Give the folder that holds the weights."
        )


def refuse_broken(folder: Path, names: list[str]) -> None:
    """Look into the files ``names`` of ``folder`` before anything big is copied. Raises ModelError."""
    for name in names:
        if name.endswith(".json") and name != "tokenizer.json":
            read_object(folder / name)
    weights = [name for name in names if _WEIGHTS.fullmatch(name)]
    for name in weights:
        safetensors_header.read(folder / name)
    index = read_object(folder / "model.safetensors.index.json").get("weight_map")
    absent = sorted({str(v) for v in index.values()} - set(weights)) if isinstance(index, dict) else []
    if absent:
        raise ModelError(
            "model.weights_missing", f"{len(absent)} weight files are missing: {absent[0]}.", "Fetch the missing files."
        )


MODEL = Wish(wanted, refuse_missing, refuse_broken)


def remote_code(folder: Path, others: list[str]) -> list[str]:
    """Programs that came with a model: files, and those that its configuration wants to run."""
    found = {name for name in others if name.endswith((".py", ".so", ".sh"))}
    for file in ("config.json", "tokenizer_config.json"):
        about = read_object(folder / file)
        if about.get("auto_map"):
            found.add(f"{file}: auto_map")
        if about.get("model_file"):
            found.add(f"{file}: model_file")
    return sorted(found)


def license_of(folder: Path) -> str:
    """The licence that README.md states in its head, "" when it states none."""
    readme = folder / "README.md"
    if not readme.is_file():
        return ""
    with open(readme, encoding="utf-8", errors="replace") as file:
        head = file.read(20_000)
    match = re.search(r"^---\n.*?^license:[ \t]*([\w.\-]{1,60})[ \t]*$.*?^---$", head, re.DOTALL | re.MULTILINE)
    return match.group(1) if match else ""


def hashes(folder: Path, say: Reporter) -> dict[str, str]:
    """SHA-256 of every file at the top of ``folder``."""
    return {p.name: sha256(p, say, "hash") for p in sorted(folder.iterdir()) if p.is_file()}


def sha256(path: Path, say: Reporter, phase: str) -> str:
    """SHA-256 of a file, in hex."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            done += len(block)
            say.phase(phase, done, total, path.name)
    return digest.hexdigest()


def need_room(folder: Path, size: int) -> None:
    """Raises StorageError ``storage.full`` when ``size`` bytes would fill the disk of ``folder``."""
    free = shutil.disk_usage(folder).free
    if free < size + _RESERVE:
        raise StorageError(
            "storage.full",
            f"The model needs {size / 1e9:.1f} GB, but the disk has {free / 1e9:.1f} GB left.",
            "Free some space, then run the import again.",
        )


def flush(folder: Path) -> None:
    """Wait until every file of ``folder`` and their names are on the disk."""
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    flush_names(folder)


def flush_names(folder: Path) -> None:
    """Wait until the names in ``folder`` (creations, renamings) are on the disk."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def download_folder(target: Path) -> Path:
    """Where the hub's files for ``target`` are gathered; kept when an import is killed, to go on from."""
    return target.with_name(target.name + ".download")


def forget_download(target: Path) -> None:
    """Remove what was gathered for ``target``."""
    shutil.rmtree(download_folder(target), ignore_errors=True)


def _files(source: Path, wish: Wish) -> list[Path]:
    """All plain files below ``source``. Raises ModelError for links that lead out of it."""
    root, found = source.resolve(), []
    links: Counter[tuple[int, int]] = Counter()
    counts: dict[tuple[int, int], tuple[int, Path]] = {}
    for path in _walk(source):
        about = path.lstat()
        if stat.S_ISLNK(about.st_mode):
            if not path.resolve().is_relative_to(root):
                raise _link(path, "a link")
            continue  # what it leads to is met by itself
        if not stat.S_ISREG(about.st_mode):
            raise ModelError("model.link", f"{path.name} is no plain file.", "Remove it from the model folder.")
        taken = path.parent == source and wish.wanted(path.name)
        if taken and not path.name.endswith(".safetensors") and about.st_size > MAX_SMALL:
            raise ModelError("model.file_large", f"{path.name} is larger than 512 MiB.", "Is it the right file?")
        key = (about.st_dev, about.st_ino)
        links[key] += 1
        counts[key] = (about.st_nlink, path)
        found.append(path)
    for key, (known, path) in counts.items():
        if known > links[key]:
            raise _link(path, "a hard link")
    return found


def _link(path: Path, kind: str) -> ModelError:
    return ModelError(
        "model.link",
        f"{path.name} is {kind} to something outside the model folder.",
        "Copy the model with its links resolved (cp -rL) and import the copy.",
    )


def _walk(source: Path) -> Iterator[Path]:
    count = 0
    for folder, folders, names in os.walk(source, followlinks=False):
        folders[:] = sorted(name for name in folders if name not in (".git", ".cache"))
        for name in [*folders, *sorted(names)]:
            path = Path(folder, name)
            if path.is_dir() and not path.is_symlink():
                continue
            count += 1
            if count > MAX_ENTRIES:
                raise ModelError(
                    "model.folder_large", f"{source.name} holds over {MAX_ENTRIES} files.", "Is it the right folder?"
                )
            yield path


def _copy(source: Path, target: Path, done: int, total: int, say: Reporter) -> int:
    fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(fd, "rb") as read, open(target, "xb") as write:
        while block := read.read(_BLOCK):
            write.write(block)
            done += len(block)
            say.phase("copy", done, total, source.name)
    return done
