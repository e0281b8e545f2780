"""Aliases: names such as champion that point at one version of a model, and everything they have pointed at.

Each move is one audit row, ``{"alias", "before", "after"}`` with version numbers, None for nowhere; the history
that pages show is read from these rows, so there is no second truth.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from mlxplatform.core.access import Role, require
from mlxplatform.core.errors import Conflict, Invalid, NotFound
from mlxplatform.core.models import AuditEvent
from registry.models import Alias, ModelVersion, RegisteredModel

ALIAS = re.compile(r"^[a-z][a-z0-9-]{0,39}$")
SET, REMOVE = "alias.set", "alias.remove"
USUAL = ("champion", "challenger")
"""Aliases that pages offer: the version in use, and the one that may take its place."""


@dataclass(frozen=True, slots=True)
class Move:
    """One move: ``before`` and ``after`` are version numbers, None for nowhere."""

    id: int
    at: datetime
    actor: str
    alias: str
    before: int | None
    after: int | None


def set_alias(user: Any, version: ModelVersion, name: str) -> Alias:
    """Point the alias ``name`` of the version's model at ``version``, wherever it pointed before.

    Raises Invalid ``alias.name``, Forbidden.
    """
    require(user, Role.EDITOR)
    if not ALIAS.match(name):
        raise Invalid("alias.name", f"'{name[:60]}' is no alias.", "Use small letters, digits and hyphens, at most 40.")
    with transaction.atomic():
        before = Alias.objects.select_for_update().filter(model=version.model, name=name).first()
        if before is not None and before.version_id == version.pk:
            return before
        row, _ = Alias.objects.update_or_create(
            model=version.model, name=name, defaults={"version": version, "moved_at": timezone.now()}
        )
        _write(user, SET, row, before.version.n if before else None, version.n)
    return row


def remove_alias(user: Any, alias: Alias) -> None:
    """Take an alias away. Raises Forbidden."""
    require(user, Role.EDITOR)
    with transaction.atomic():
        _write(user, REMOVE, alias, alias.version.n, None)
        alias.delete()


def move_back(user: Any, model: RegisteredModel, name: str, move_id: int) -> Alias | None:
    """Undo the alias's last move, ``move_id``; returns where it points now, None for nowhere.

    It is a move like any other, so undoing it again goes forward. Raises NotFound ``alias.unmoved``, Conflict
    ``alias.moved`` when somebody has moved it since, ``alias.version_gone``, Forbidden.
    """
    require(user, Role.EDITOR)
    with transaction.atomic():
        last = next(iter(moves(model, name)), None)
        if last is None:
            raise NotFound("alias.unmoved", f"The alias '{name[:40]}' has never been moved.", "Reload the page.")
        if last.id != move_id:
            to = f"v{last.after}" if last.after is not None else "nowhere"
            raise Conflict(
                "alias.moved",
                f"{last.actor} has moved '{name}' since, to {to}.",
                "Look at the page again, then decide.",
            )
        if last.before is None:
            alias = Alias.objects.filter(model=model, name=name).first()
            if alias is not None:
                remove_alias(user, alias)
            return None
        version = model.versions.filter(n=last.before).first()
        if version is None:
            raise Conflict(
                "alias.version_gone", f"v{last.before} of {model} is not there any more.", "Choose another version."
            )
        return set_alias(user, version, name)


def rows(model: RegisteredModel, name: str = "") -> QuerySet[AuditEvent]:
    """The audit rows of all moves, or of those of one alias, the newest first."""
    found = AuditEvent.objects.filter(target=f"model {model.pk}", action__in=(SET, REMOVE)).order_by("-id")
    return found.filter(detail__alias=name) if name else found


def moves(model: RegisteredModel, name: str = "") -> Iterable[Move]:
    """All moves, or those of one alias, the newest first; read as they are looked at."""
    return map(as_move, rows(model, name).iterator(chunk_size=50))


def as_move(row: AuditEvent) -> Move:
    """An audit row of :func:`rows` as the move it tells of."""
    detail = row.detail
    return Move(row.pk, row.at, row.actor, str(detail.get("alias")), detail.get("before"), detail.get("after"))


def _write(user: Any, action: str, alias: Alias, before: int | None, after: int | None) -> None:
    AuditEvent.write(user, action, f"model {alias.model_id}", alias=alias.name, before=before, after=after)
