"""Tables of access: API tokens, one-time links, and the audit trail."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone

from mlxplatform.core.access import TOKEN_PREFIX, VisibleQuerySet, digest, link_expiry, new_secret


class ApiToken(models.Model):
    """A bearer token of one person. Only its hash is stored; the token itself is shown once."""

    class Scope(models.TextChoices):
        READ = "read", "Read"
        WRITE = "write", "Read and write"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=80)
    scope = models.CharField(max_length=8, choices=Scope, default=Scope.READ)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    hint = models.CharField(max_length=12, editable=False, help_text="The token's first characters.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, editable=False)
    revoked_at = models.DateTimeField(null=True, editable=False)

    objects = VisibleQuerySet["ApiToken"].as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.hint}…)"

    @classmethod
    def issue(cls, owner: Any, name: str, scope: str, expires_at: Any = None) -> tuple[ApiToken, str]:
        """A new token and its secret, which cannot be had again."""
        secret = new_secret(TOKEN_PREFIX)
        row = cls.objects.create(
            owner=owner, name=name, scope=scope, digest=digest(secret), hint=secret[:10], expires_at=expires_at
        )
        return row, secret

    @property
    def is_live(self) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > timezone.now())


class OneTimeLink(models.Model):
    """A link printed on the console: it sets up the first administrator, or signs one in, once."""

    class Purpose(models.TextChoices):
        SETUP = "setup", "Set up"
        SIGN_IN = "sign_in", "Sign in"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    purpose = models.CharField(max_length=8, choices=Purpose)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="+")
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(default=link_expiry)
    used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.purpose} {self.created_at:%Y-%m-%d %H:%M}"

    @classmethod
    def issue(cls, purpose: str, user: Any = None) -> str:
        """The secret of a new link; older unused links of the same purpose stop working."""
        cls.objects.filter(purpose=purpose, user=user, used_at=None).delete()
        secret = new_secret()
        cls.objects.create(purpose=purpose, user=user, digest=digest(secret))
        return secret

    @classmethod
    def redeem(cls, purpose: str, secret: str) -> OneTimeLink | None:
        """Use a link up. None if it is unknown, expired or used: the conditional UPDATE lets one caller win."""
        now = timezone.now()
        rows = cls.objects.filter(purpose=purpose, digest=digest(secret))
        if rows.filter(used_at=None, expires_at__gt=now).update(used_at=now) != 1:
            return None
        return rows.select_related("user").get()


class AuditEvent(models.Model):
    """Who did what to which row; rows are only ever added."""

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(default=timezone.now, db_index=True)
    actor = models.CharField(max_length=150, help_text="User name, or 'system'.")
    action = models.CharField(max_length=60)
    target = models.CharField(max_length=120, db_index=True, help_text="Kind and id of the row.")
    detail = models.JSONField(default=dict)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.target}"

    @classmethod
    def write(cls, actor: Any, action: str, target: str, **detail: Any) -> None:
        """Add a row; call it inside the transaction of what it reports."""
        name = getattr(actor, "username", "") or str(actor or "system")
        cls.objects.create(actor=name[:150], action=action, target=target[:120], detail=detail)
