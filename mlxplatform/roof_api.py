"""Tokens, people and the system over the API."""

from __future__ import annotations

import shutil
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest
from ninja import Query, Router, Status

from mlxplatform import services
from mlxplatform.core.access import Role, require
from mlxplatform.core.env import env
from mlxplatform.core.models import ApiToken
from mlxplatform.core.paging import page
from mlxplatform.schemas import SystemOut, TokenIn, TokenMade, TokenOut, TokenPage, UserPage
from training.alive import worker_is_alive
from training.models import DeviceSlot, Job
from training.uploads import free_bytes

tokens, users, system = Router(tags=["access"]), Router(tags=["access"]), Router(tags=["system"])


@tokens.get("", response=TokenPage, operation_id="list_tokens")
def list_tokens(request: HttpRequest, cursor: str = "", limit: int = Query(50, ge=1, le=200)) -> Any:
    """Your own tokens, without their secrets."""
    return page(ApiToken.objects.filter(owner=request.user.pk), "-created_at", cursor, limit)


@tokens.post("", response={201: TokenMade}, operation_id="make_token")
def make_token(request: HttpRequest, body: TokenIn) -> Any:
    """Make a token. Its secret is in this answer and nowhere else."""
    token, secret = services.issue_token(request.user, body.name, body.scope, body.days)
    return Status(201, {**TokenOut.from_orm(token).model_dump(), "secret": secret})


@tokens.delete("/{uuid:token_id}", response=TokenOut, operation_id="revoke_token")
def revoke_token(request: HttpRequest, token_id: UUID) -> Any:
    """End one of your tokens at once."""
    return services.revoke_token(request.user, token_id)


@users.get("", response=UserPage, operation_id="list_users")
def list_users(request: HttpRequest, cursor: str = "", limit: int = Query(50, ge=1, le=200)) -> Any:
    """People and their roles; for admins."""
    require(request.user, Role.ADMIN)
    return page(User.objects.all(), "username", cursor, limit)


@system.get("", response=SystemOut, operation_id="get_system")
def get_system(request: HttpRequest) -> Any:
    """Slots, queue, worker and disk."""
    disk = shutil.disk_usage(settings.HOME)
    return {
        "version": _version(),
        "slots": list(DeviceSlot.objects.all()),
        "queued": Job.objects.waiting().count(),
        "queue_limit": env().max_queued,
        "worker_alive": worker_is_alive(),
        "disk": {"total": disk.total, "free": disk.free, "usable": free_bytes()},
    }


def _version() -> str:
    try:
        return version("mlx-platform")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0.1.0"
