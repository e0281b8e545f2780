"""Who may do what: three roles, API tokens with scopes, one-time sign-in links.

A viewer looks, an editor also starts and changes things, an admin also manages people. There is one
workspace: everybody signed in sees everything, and ``visible_to`` is the single place that says so.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from enum import StrEnum
from typing import Any, TypeVar

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, Group, User
from django.db import models, transaction
from django.utils import timezone

from mlxplatform.core.errors import Forbidden

RowT = TypeVar("RowT", bound=models.Model)
LINK_LIFE = timedelta(minutes=30)
TOKEN_PREFIX = "mlxp_"  # noqa: S105 - a prefix, so that a leaked token is recognised


class Role(StrEnum):
    """What a person may do; each includes the one before."""

    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"


_RANK = {Role.VIEWER: 0, Role.EDITOR: 1, Role.ADMIN: 2}


def role_of(user: Any) -> Role | None:
    """The highest role of a signed-in, active person; None for a stranger."""
    if not getattr(user, "is_authenticated", False) or not user.is_active:
        return None
    if user.is_superuser:
        return Role.ADMIN
    names = set(user.groups.values_list("name", flat=True))
    return next((role for role in (Role.ADMIN, Role.EDITOR, Role.VIEWER) if role in names), None)


def allows(user: Any, role: Role) -> bool:
    """Whether ``user`` has at least ``role``."""
    own = role_of(user)
    return own is not None and _RANK[own] >= _RANK[role]


def require(user: Any, role: Role) -> None:
    """Raise Forbidden unless ``user`` has at least ``role``."""
    if not allows(user, role):
        raise Forbidden(
            "access.role",
            f"This needs the role {role}.",
            "Ask an admin of this dashboard to give it to you.",
        )


class VisibleQuerySet(models.QuerySet[RowT]):
    """Base of every queryset that interfaces use."""

    def visible_to(self, user: AbstractBaseUser | AnonymousUser | Any) -> Any:
        """The rows ``user`` may see: all of the workspace's for anyone with a role, none for a stranger."""
        return self.all() if allows(user, Role.VIEWER) else self.none()


def make_user(username: str, role: Role, password: str | None = None, *, superuser: bool = False) -> User:
    """A new person with ``role``; without a password they can sign in by link only."""
    with transaction.atomic():
        user = User(username=username, is_staff=role == Role.ADMIN, is_superuser=superuser)
        if password:
            user.set_password(password)
        else:
            user.set_unusable_password()
        user.save()
        user.groups.set([Group.objects.get_or_create(name=role)[0]])
    return user


def digest(secret: str) -> str:
    """What is stored of a secret: its sha256. The secrets are 256 random bits, so no salt is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_secret(prefix: str = "") -> str:
    """256 random bits, URL-safe."""
    return prefix + secrets.token_urlsafe(32)


def link_expiry() -> Any:
    """When a one-time link made now stops working."""
    return timezone.now() + LINK_LIFE
