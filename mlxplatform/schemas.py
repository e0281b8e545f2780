"""What the API of the roof takes and gives: tokens, people, the system."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from ninja import Schema
from pydantic import ConfigDict, Field

from mlxplatform.core.access import role_of


class TokenIn(Schema):
    """A token to make."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=80)
    scope: Literal["read", "write"] = "read"
    days: int = Field(0, ge=0, le=3650, description="Days until it ends; 0: until it is revoked.")


class TokenOut(Schema):
    """A token without its secret; ``hint`` is how it begins."""

    id: UUID
    name: str
    scope: str
    hint: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class TokenMade(TokenOut):
    """A new token with its secret, which is shown this once."""

    secret: str


class TokenPage(Schema):
    items: list[TokenOut]
    next: str | None


class UserOut(Schema):
    """A person."""

    id: int
    username: str
    role: str | None
    is_active: bool
    last_login: datetime | None

    @staticmethod
    def resolve_role(row: Any) -> str | None:
        return role_of(row)


class UserPage(Schema):
    items: list[UserOut]
    next: str | None


class SlotOut(Schema):
    """One place to run in, and the job that holds it."""

    name: str
    resource: str
    job_id: UUID | None
    taken_at: datetime | None


class DiskOut(Schema):
    """Bytes of the data folder's disk; ``usable`` is what is free beyond the reserve."""

    total: int
    free: int
    usable: int


class SystemOut(Schema):
    """What runs, what waits, whether the worker lives and how much disk is left."""

    version: str
    slots: list[SlotOut]
    queued: int
    queue_limit: int
    worker_alive: bool
    disk: DiskOut
