"""Data sets of the Hugging Face Hub as streams, pinned to a commit. Imports ``datasets``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import httpx2
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from training.engine.config.imports import HubDataSource
from training.engine.data.containers import Record
from training.engine.data.sources import POOL, Part, split_of
from training.engine.errors import DataError
from training.engine.report import Reporter

TIMEOUT = 10.0  # seconds until the Hub must have answered

_UNREACHABLE = (OfflineModeIsEnabled, ConnectionError, TimeoutError, httpx2.TransportError)


def rows(source: HubDataSource, say: Reporter) -> tuple[Iterator[tuple[Part, Record]], frozenset[str], str]:
    """All rows of a data set, the splits it comes with, and the commit that ``revision`` meant just now.

    Raises DataError: data.hub_unreachable, .hub_not_found, .hub_gated, .hub_config, .hub_error.
    """
    repo = source.repo_id
    say.phase("download", detail=f"{repo} at {source.revision}")
    try:
        commit = HfApi().dataset_info(repo, revision=source.revision, timeout=TIMEOUT).sha or source.revision
        found = datasets.load_dataset(
            repo, source.config or None, split=source.split or None, revision=commit, streaming=True
        )
    except Exception as error:
        raise _told(error, source) from error
    streams: dict[str, Any] = dict(found) if isinstance(found, dict) else {source.split or POOL: found}
    parts = {name: Part(Path(name), f"{repo}/{name}", POOL if source.split else split_of(name), 0) for name in streams}
    say.log(f"{repo} is pinned to commit {commit}.")
    return _stream(streams, parts, source, say), frozenset(part.split for part in parts.values()) - {POOL}, commit


def _stream(
    streams: dict[str, Any], parts: dict[str, Part], source: HubDataSource, say: Reporter
) -> Iterator[tuple[Part, Record]]:
    done = 0
    for name, stream in streams.items():
        try:
            for number, row in enumerate(stream, 1):
                yield parts[name], Record(number, row)
                done += 1
                if done % 1000 == 0:
                    say.phase("read", done, detail=f"{done:,} rows")
        except Exception as error:
            raise _told(error, source) from error


def _told(error: Exception, source: HubDataSource) -> DataError:
    """What went wrong, in our words."""
    if isinstance(error, DataError):
        return error
    repo, first = source.repo_id, (str(error).splitlines() or [type(error).__name__])[0][:200]
    if isinstance(error, _UNREACHABLE):
        return DataError(
            "data.hub_unreachable",
            f"The Hugging Face Hub ({constants.ENDPOINT}) cannot be reached from here.",
            "Check the connection, or download the data set elsewhere and import its files.",
        )
    if isinstance(error, GatedRepoError):
        return DataError(
            "data.hub_gated",
            f"The data set {repo} asks for an account that was granted access.",
            "Accept its terms on its page and set a token.",
        )
    if isinstance(error, RevisionNotFoundError):
        return DataError(
            "data.hub_not_found", f"The data set {repo} has no revision {source.revision}.", "Check the revision."
        )
    if isinstance(error, RepositoryNotFoundError | DatasetNotFoundError):
        return DataError("data.hub_not_found", f"There is no public data set {repo}.", "Check the name: owner/name.")
    if isinstance(error, ValueError) and ("onfig" in first or "split" in first):
        return DataError("data.hub_config", f"{repo}: {first}", "Name one of the configurations and splits it has.")
    if isinstance(error, HfHubHTTPError):
        return DataError("data.hub_error", f"The Hub answered with an error: {first}", "Try again later.")
    return DataError(
        "data.hub_error",
        f"{repo} cannot be read: {first}",
        "Data sets that need a script of their own are not run here; download files and import them.",
    )
