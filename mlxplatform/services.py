"""People and their keys: the roof's writes. Each leaves a row in the audit trail."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from mlxplatform.core.access import Role, digest, make_user, require, role_of
from mlxplatform.core.errors import Conflict, NotFound, TooMuch
from mlxplatform.core.models import ApiToken, AuditEvent, OneTimeLink

#: Failed sign-ins that are counted, and how many are let through in that time: from one address for
#: one name, from one address, and for one name from anywhere.
WINDOW = timedelta(minutes=15)
PAIR_LIMIT, ADDRESS_LIMIT, NAME_LIMIT = 5, 30, 100
FAILED = "sign_in.failed"
Purpose = OneTimeLink.Purpose


def check_throttle(username: str, address: str) -> None:
    """Raise TooMuch when too many sign-ins failed of late.

    The limit for a name alone is wide, so that a stranger cannot lock somebody out; a one-time link
    is never throttled.
    """
    failed = AuditEvent.objects.filter(action=FAILED, at__gt=timezone.now() - WINDOW)
    target = _sign_in_target(username)
    if (
        failed.filter(actor=address, target=target).count() >= PAIR_LIMIT
        or failed.filter(actor=address).count() >= ADDRESS_LIMIT
        or failed.filter(target=target).count() >= NAME_LIMIT
    ):
        raise TooMuch(
            "sign_in.throttled",
            "Too many sign-ins failed.",
            "Wait 15 minutes, or sign in with a one-time link: python manage.py signin_link.",
        )


def note_failed_sign_in(username: str, address: str) -> None:
    """Remember a failed sign-in for the throttle."""
    AuditEvent.write(address, FAILED, _sign_in_target(username))


def _sign_in_target(username: str) -> str:
    return f"sign_in:{username.strip().casefold()}"[:120]


def pending_link(purpose: str, secret: str) -> OneTimeLink:
    """The usable link with this secret, without using it up; NotFound otherwise."""
    rows = OneTimeLink.objects.filter(purpose=purpose, digest=digest(secret), used_at=None)
    link = rows.filter(expires_at__gt=timezone.now()).select_related("user").first()
    if link is None or (link.user is not None and not link.user.is_active):
        raise NotFound(
            "link.spent",
            "This link was used already, is older than 30 minutes, or was replaced by a newer one.",
            "Sign in with your password, or ask an admin for a new link.",
        )
    return link


def set_up(secret: str, username: str, password: str) -> User:
    """Make the first administrator; once, and only while there is nobody."""
    with transaction.atomic():
        if User.objects.exists():
            raise Conflict("setup.done", "This dashboard has its administrator already.", "Sign in.")
        pending_link(Purpose.SETUP, secret)
        OneTimeLink.redeem(Purpose.SETUP, secret)
        user = make_user(username, Role.ADMIN, password, superuser=True)
        AuditEvent.write(user, "user.set_up", f"user:{user.pk}")
    return user


def redeem_sign_in(secret: str) -> User:
    """The person whose one-time link this is; the link is used up."""
    pending_link(Purpose.SIGN_IN, secret)
    link = OneTimeLink.redeem(Purpose.SIGN_IN, secret)
    if link is None or link.user is None:  # another request was faster
        raise NotFound("link.spent", "This link was used already.", "Ask an admin for a new one.")
    AuditEvent.write(link.user, "sign_in.link", f"user:{link.user.pk}")
    return User.objects.get(pk=link.user.pk)


def add_user(actor: Any, username: str, role: Role, password: str = "") -> tuple[User, str]:
    """A new person; without a password also the secret of a one-time sign-in link, else ""."""
    require(actor, Role.ADMIN)
    with transaction.atomic():
        user = make_user(username, role, password or None)
        secret = "" if password else OneTimeLink.issue(Purpose.SIGN_IN, user)
        AuditEvent.write(actor, "user.added", f"user:{user.pk}", name=username, role=role)
    return user, secret


def sign_in_link(actor: Any, user: User) -> str:
    """The secret of a new one-time link for ``user``; older ones stop working."""
    require(actor, Role.ADMIN)
    if not user.is_active:
        raise Conflict("users.inactive", f"{user.username} is deactivated.", "Activate the account first.")
    with transaction.atomic():
        secret = OneTimeLink.issue(Purpose.SIGN_IN, user)
        AuditEvent.write(actor, "user.link", f"user:{user.pk}")
    return secret


def change_role(actor: Any, user: User, role: Role) -> None:
    """Give ``user`` another role; Conflict when that would leave no admin."""
    require(actor, Role.ADMIN)
    with transaction.atomic():
        if role != Role.ADMIN:
            _keep_an_admin(user)
        before = role_of(user)
        user.is_staff = role == Role.ADMIN
        user.is_superuser = user.is_superuser and role == Role.ADMIN
        user.save(update_fields=["is_staff", "is_superuser"])
        user.groups.set([Group.objects.get_or_create(name=role)[0]])
        AuditEvent.write(actor, "user.role", f"user:{user.pk}", before=before, after=role)


def set_active(actor: Any, user: User, active: bool) -> None:
    """Let ``user`` in or keep them out; their sessions and tokens stop working at once."""
    require(actor, Role.ADMIN)
    with transaction.atomic():
        if not active:
            _keep_an_admin(user)
        user.is_active = active
        user.save(update_fields=["is_active"])
        AuditEvent.write(actor, "user.activated" if active else "user.deactivated", f"user:{user.pk}")


def _keep_an_admin(leaving: User) -> None:
    if not admins().exclude(pk=leaving.pk).exists():
        raise Conflict(
            "users.last_admin",
            f"{leaving.username} is the last admin.",
            "Make somebody else an admin first.",
        )


def admins() -> QuerySet[User]:
    """Active people who may manage people."""
    return User.objects.filter(Q(is_superuser=True) | Q(groups__name=Role.ADMIN), is_active=True).distinct()


def issue_token(owner: Any, name: str, scope: str, days: int) -> tuple[ApiToken, str]:
    """A new API token of ``owner``, good for ``days`` (0: until revoked), and its secret."""
    expires = timezone.now() + timedelta(days=days) if days else None
    with transaction.atomic():
        token, secret = ApiToken.issue(owner, name, scope, expires)
        AuditEvent.write(owner, "token.issued", f"token:{token.pk}", name=name, scope=scope)
    return token, secret


def revoke_token(owner: Any, token_id: Any) -> ApiToken:
    """End a token of ``owner`` at once; NotFound for somebody else's."""
    with transaction.atomic():
        token = ApiToken.objects.filter(owner=owner, pk=token_id).first()
        if token is None:
            raise NotFound("token.unknown", "There is no such token.", "Reload the list.")
        if token.revoked_at is None:
            token.revoked_at = timezone.now()
            token.save(update_fields=["revoked_at"])
            AuditEvent.write(owner, "token.revoked", f"token:{token.pk}", name=token.name)
    return token
