"""The machines that ranks may run on: MLX's own hostfile, written by the operator and named by ``MLXP_HOSTFILE``.

``mlx.distributed_config`` makes such a file; its format is ``[{"ssh": name, "ips": [...], "rdma": [...]}, …]``
or the same under ``"hosts"``. Its first host is the machine that the dashboard runs on. Without the file a
training has no machine but this one.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.engine.errors import ConfigError, Problem

VARIABLE = "MLXP_HOSTFILE"
#: A DNS name or an IPv4 address; begins with a letter or digit, so that no option parser takes it for its own.
HOST_NAME = r"^[A-Za-z0-9]([A-Za-z0-9.\-]{0,251}[A-Za-z0-9])?$"
HERE = "127.0.0.1"  # mlx.launch starts a process itself only where a host has this name; all others it asks by ssh
MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Host:
    """One machine of the hostfile, as MLX knows it."""

    name: str
    ips: tuple[str, ...] = ()
    rdma: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Hostfile:
    """The operator's machines, this one first, and the environment that their ranks get."""

    hosts: tuple[Host, ...] = (Host(HERE, (HERE,)),)
    envs: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The machines beside this one."""
        return [host.name for host in self.hosts[1:]]

    def problem(self, asked: list[str]) -> Problem | None:
        """What speaks against ranks on the machines ``asked``; None when nothing does."""
        unknown = [name for name in asked if name not in self.names]
        if not unknown:
            return None
        known = f"Known are: {', '.join(self.names)}." if self.names else f"An operator sets {VARIABLE} for that."
        return Problem(("hosts",), "hosts.not_allowed", f"No training may run on '{unknown[0]}'.", known)

    def deal(self, asked: list[str], ranks: int) -> dict[str, Any]:
        """What mlx.launch reads: an entry for each rank, those of this machine first. Raises ConfigError.

        Between machines every rank needs an address of this one that the others can reach, so this
        machine's addresses are the file's, while its ranks are started without ssh.
        """
        if found := self.problem(asked):
            raise ConfigError.of([found])
        chosen = [0, *(i for i, host in enumerate(self.hosts) if i and host.name in asked)]
        entries = []
        for i in chosen:
            host = self.hosts[i]
            name = HERE if i == 0 else host.name
            ips = list(host.ips) if asked else [HERE]
            rdma = [host.rdma[j] for j in chosen] if len(host.rdma) == len(self.hosts) else []
            entries += [{"ssh": name, "ips": ips, "rdma": rdma}] * (ranks // len(chosen))
        return {"hosts": entries, "envs": list(self.envs)}


def load() -> Hostfile:
    """The hostfile that ``MLXP_HOSTFILE`` names; this machine alone when it names none. Raises ConfigError."""
    path = os.environ.get(VARIABLE, "")
    return read(Path(path)) if path else Hostfile()


def read(path: Path) -> Hostfile:
    """The hostfile at ``path``. Raises ConfigError."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("it is larger than 1 MiB")
        raw = json.loads(path.read_text(encoding="utf-8"))
        rows, envs = (raw["hosts"], raw.get("envs", [])) if isinstance(raw, dict) else (raw, [])
        hosts = tuple(_host(row) for row in rows)
        if not hosts:
            raise ValueError("it names no host")
        if not all(isinstance(text, str) for text in envs):
            raise ValueError("'envs' holds something else than texts")
        return Hostfile(hosts, tuple(envs))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else str(error)
        raise ConfigError(
            "hosts.file",
            f"The hostfile {path.name} cannot be used: {why}.",
            f"Mend it, or unset {VARIABLE} to train on this machine alone.",
        ) from error


def _host(row: dict[str, Any]) -> Host:
    name, ips, rdma = row["ssh"], row.get("ips", []), row.get("rdma", [])
    for text in (name, *ips):
        if not re.fullmatch(HOST_NAME, text):
            raise ValueError(f"'{text}' is neither a host name nor an IPv4 address")
    return Host(name, tuple(ips), tuple(rdma))
