"""Pieces of finished work in a file, so that a killed run goes on where it was and finds the same numbers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.engine.errors import StorageError


class Records:
    """JSON values by key, one in a line; a line that was torn by a kill is as if it had never been begun."""

    def __init__(self, path: Path, identity: str) -> None:
        """``identity``: what must be the same for the pieces to fit; others are thrown away.

        Raises StorageError ``storage.records``.
        """
        self._path = path
        kept = _read(path)
        if not kept or kept[0] != ["identity", identity]:
            kept = [["identity", identity]]
        self._found = dict(kept[1:])
        try:
            beside = path.with_suffix(".part")
            beside.write_text("".join(map(_line, kept)), encoding="utf-8")
            beside.replace(path)
        except OSError as error:
            raise self._failed(error) from error

    def __contains__(self, key: str) -> bool:
        return key in self._found

    def of(self, key: str, compute: Callable[[], Any]) -> Any:
        """The piece ``key``, computed and on the disk if it was not there."""
        if key not in self._found:
            value = compute()
            try:
                with open(self._path, "a", encoding="utf-8") as file:
                    file.write(_line([key, value]))
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise self._failed(error) from error
            self._found[key] = value
        return self._found[key]

    def _failed(self, error: OSError) -> StorageError:
        return StorageError(
            "storage.records",
            f"{self._path.name} cannot be written: {error.strerror}.",
            "Free some disk space or give the run folder write permission, then resume.",
        )


def _line(piece: list[Any]) -> str:
    return json.dumps(piece, ensure_ascii=True) + "\n"


def _read(path: Path) -> list[Any]:
    """All whole lines."""
    found: list[Any] = []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return found
    for line in text.splitlines(keepends=True):
        try:
            piece = json.loads(line)
        except ValueError:
            break
        if not line.endswith("\n") or not isinstance(piece, list) or len(piece) != 2:
            break
        found.append(piece)
    return found
