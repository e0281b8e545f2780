"""Fetches a model from the Hugging Face Hub: pinned to a commit, safetensors and JSON only.

The token for private and gated models is ``HF_TOKEN`` of the environment; another hub address is
``HF_ENDPOINT``. A fetch that was killed goes on where it stopped.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,  # of the HTTP client that the library uses
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from training.engine.config.imports import HubSource
from training.engine.errors import ModelError
from training.engine.foreign import model_folder
from training.engine.report import Reporter

_SECONDS = 15.0  # for the first answer of the hub
_HINT_OFFLINE = (
    "Connect this machine to the internet or set HTTPS_PROXY; or fetch the model elsewhere and import its folder."
)


def fetch(
    source: HubSource, part: Path, target: Path, say: Reporter, wish: model_folder.Wish = model_folder.MODEL
) -> model_folder.Origin:
    """Put the files of ``source`` that are in the ``wish`` into ``part``.

    Raises ModelError: ``model.hub_unreachable``, ``model.hub_unknown``, ``model.hub_revision``,
    ``model.hub_gated``, ``model.hub_refused`` and what a broken folder raises.
    """
    say.phase("download", detail=f"{source.repo_id}: list of files")
    try:
        about = huggingface_hub.HfApi().model_info(
            source.repo_id, revision=source.revision or None, files_metadata=True, timeout=_SECONDS
        )
        sizes = {s.rfilename: s.size or 0 for s in about.siblings or []}
        names = sorted(name for name in sizes if wish.wanted(name))
        wish.refuse_missing(source.repo_id, names, sorted(sizes))
        model_folder.need_room(part, sum(sizes[name] for name in names))
        gathered = model_folder.download_folder(target)
        huggingface_hub.snapshot_download(
            source.repo_id,
            revision=about.sha,
            local_dir=gathered,
            allow_patterns=names,
            etag_timeout=_SECONDS,
            max_workers=4,
            tqdm_class=_progress(say, source.repo_id),
        )
    except Exception as error:
        raise _named(error, source) from error
    wish.refuse_broken(gathered, names)
    for name in names:
        (gathered / name).replace(part / name)
    others = sorted(set(sizes) - set(names))
    tags = about.card_data.get("license") if about.card_data else None
    return model_folder.Origin(
        name=source.repo_id.rpartition("/")[2],
        source=f"hub:{source.repo_id}",
        revision=about.sha or "",
        license=tags if isinstance(tags, str) else model_folder.license_of(part),
        remote_code=model_folder.remote_code(part, others),
        left_out=others,
    )


def _named(error: Exception, source: HubSource) -> Exception:
    """What the hub's library raised, in our words; an error that is not about the hub as it is."""
    name, revision = source.repo_id, source.revision
    if isinstance(error, GatedRepoError):
        return ModelError(
            "model.hub_gated",
            f"{name} is given only to accounts that accepted its terms.",
            "Accept them on its page at the hub and set HF_TOKEN to a token of that account.",
        )
    if isinstance(error, RevisionNotFoundError):
        return ModelError("model.hub_revision", f"{name} has no revision '{revision}'.", "Take 'main' or a commit.")
    if isinstance(error, RepositoryNotFoundError):
        return ModelError(
            "model.hub_unknown",
            f"The hub knows no model '{name}', or it is private.",
            "Check the spelling; for a private model set HF_TOKEN.",
        )
    if isinstance(error, OfflineModeIsEnabled):
        return ModelError(
            "model.hub_unreachable",
            "The hub is switched off on this machine (HF_HUB_OFFLINE).",
            "Unset HF_HUB_OFFLINE, or import the model from a folder.",
        )
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code if error.response is not None else "no"
        return ModelError(
            "model.hub_refused", f"The hub answered with status {status} for {name}.", "Try again in some minutes."
        )
    if isinstance(error, HTTPError | LocalEntryNotFoundError | ConnectionError | TimeoutError):
        address = os.environ.get("HF_ENDPOINT") or "The Hugging Face Hub"
        return ModelError("model.hub_unreachable", f"{address} cannot be reached from this machine.", _HINT_OFFLINE)
    return error


def _progress(say: Reporter, name: str) -> type[Any]:
    """A progress bar for the hub's library that draws nothing and tells ``say`` the bytes."""

    class Progress(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)  # the library's own addition
            super().__init__(*args, **{**kwargs, "disable": False, "file": _NOWHERE})

        def update(self, n: float | None = 1) -> bool | None:
            moved = super().update(n)
            if self.unit == "B" and self.total:
                say.phase("download", int(self.n), int(self.total), name)
            return moved

    return Progress


class _Nowhere:
    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        """Nothing is kept."""


_NOWHERE = _Nowhere()
