"""Every environment variable the platform reads, with its default. All of them start with ``MLXP_``.

``docs/operations.md`` has one row for each; a test compares the two.
"""

from __future__ import annotations

import os
import secrets
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ROOT = Path(__file__).resolve().parents[2]


class Env(BaseSettings):
    """Settings of one installation."""

    model_config = SettingsConfigDict(env_prefix="MLXP_", extra="ignore", frozen=True)

    home: Path = Field(ROOT / "var", description="Data folder: database, runs, models, data sets.")
    host: str = Field("127.0.0.1", description="Address the dashboard listens on.")
    port: int = Field(8500, ge=1, le=65535, description="Port the dashboard listens on.")
    allowed_hosts: Annotated[str, NoDecode] = Field(
        "", description="Further host names, comma-separated, under which the dashboard may be called; never '*'."
    )
    https: bool = Field(False, description="The dashboard is reached by https (a proxy in front ends TLS).")
    debug: bool = Field(False, description="Show Django's debug pages. Refused when listening beyond this machine.")
    import_roots: str = Field(
        "", description="Folders, separated by ':', from which models and data may be imported by path."
    )
    max_upload_mb: int = Field(2048, ge=1, description="Largest upload in MiB.")
    reserve_gb: float = Field(1.0, ge=0, description="Disk space in GB that is never filled.")
    device_slots: int = Field(1, ge=1, le=64, description="Trainings that may run at the same time.")
    cpu_slots: int = Field(2, ge=1, le=64, description="Imports that may run at the same time.")
    unwatched_s: float = Field(600.0, gt=0, description="Seconds an engine goes on without a worker that watches it.")
    grace_s: float = Field(60.0, gt=0, description="Seconds between asking an engine to stop and killing it.")
    max_queued: int = Field(500, ge=1, description="Most jobs that may wait.")
    hostfile: str = Field(
        "", description="MLX hostfile of the machines that trainings may run ranks on; none but this one if empty."
    )
    reward_modules: str = Field(
        "",
        description="Python files in the data folder's rewards folder, comma-separated, whose functions may score "
        "answers; none if empty.",
    )
    offline: bool = Field(False, description="Never ask the Hugging Face Hub.")

    @property
    def roots(self) -> list[Path]:
        """The folders imports may come from, resolved."""
        return [Path(p).expanduser().resolve() for p in self.import_roots.split(":") if p.strip()]

    @property
    def hosts(self) -> list[str]:
        """Host names the dashboard answers to."""
        own = ["127.0.0.1", "localhost", "[::1]"]
        return own + [h.strip() for h in self.allowed_hosts.split(",") if h.strip()]

    def folder(self, name: str) -> Path:
        """A sub-folder of the data folder, made when needed and private to its owner."""
        path = self.home / name
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path


@lru_cache(maxsize=1)
def env() -> Env:
    """The settings of this process, read once."""
    return Env()


def secret_key(home: Path) -> str:
    """The installation's secret, made at the first start and kept in a file only its owner can read."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = home / "secret"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(fd, "w") as file:
        value = secrets.token_urlsafe(64)
        file.write(value)
    return value
