"""Several processes that train one model on shares of the same rows: what they tell each other.

Every rank holds the whole model and takes its share of each micro-batch's rows. Losses, gradients and token
counts are *summed* over the ranks and divided once, by all tokens, so any number of ranks makes the update
that one rank makes of all rows; a mean of the ranks' means would weigh a short row's token more than a long
row's. Only :mod:`mlx.core.distributed` is used: the ring of TCP sockets, NCCL, MPI or JACCL.

All ranks must enter the same calls in the same order. That is why an end that was asked for is agreed on: every
:meth:`Group.total` carries along whether somebody asked this rank, and :meth:`Group.check` then ends all of them
at the same place. A group of one rank is the plain loop at no cost.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from training.engine.errors import ConfigError, EngineError, Exit, StopAsked
from training.engine.machine import random_stream
from training.engine.run.session import Session

ItemT = TypeVar("ItemT")

#: Elements of a buffer in which small gradients travel together: 128 MiB of float32.
BUFFER = 32 << 20
#: What mlx.launch sets for each link, in the order in which they are looked for. MPI brings its own.
_LINKS = {"NCCL_HOST_IP": "nccl", "MLX_JACCL_COORDINATOR": "jaccl", "MLX_HOSTFILE": "ring"}


class PeerLost(EngineError):  # noqa: N818 - says what is
    """Another rank has gone, or the connection to it."""


class Group:
    """The ranks of one training, as rank :attr:`rank` of :attr:`size` sees them."""

    def __init__(self, session: Session, inner: mx.distributed.Group | None = None) -> None:
        """``inner``: MLX's group; None is a group of this process alone."""
        self._session, self._inner = session, inner
        self.rank = inner.rank() if inner is not None else 0
        self.size = inner.size() if inner is not None else 1
        self._asked = False

    @property
    def is_alone(self) -> bool:
        return self.size == 1

    @property
    def is_first(self) -> bool:
        """Whether this rank speaks and writes for all: checkpoints, samples, the journal."""
        return self.rank == 0

    def share(self, items: Sequence[ItemT], sizes: Sequence[int]) -> list[ItemT]:
        """This rank's part of ``items``, in their order.

        Dealt out from the largest to the smallest, there and back again (0, 1, 1, 0, …): two ranks differ by
        one item at most, and by the size of one item at most.
        """
        if self.is_alone:
            return list(items)
        largest_first = sorted(range(len(items)), key=lambda i: -sizes[i])
        turn = [*range(self.size), *reversed(range(self.size))]
        mine = {i for place, i in enumerate(largest_first) if turn[place % len(turn)] == self.rank}
        return [item for i, item in enumerate(items) if i in mine]

    def room(self, whole: int, largest: int = 0) -> int:
        """What a share of ``whole`` may take, where an item takes ``largest`` at most (0: they are counted)."""
        even = -(-whole // self.size)
        return even + largest * (self.size - 1) // self.size

    def check(self) -> None:
        """Raise StopAsked if an end was asked for: alone at once, in a group where the last total told it to all."""
        if self.is_alone:
            self._session.check()
        elif self._asked:
            raise self._session.stopping or StopAsked("another rank was asked to stop", Exit.STOPPED)

    def total(self, *numbers: float) -> list[float]:
        """Each number summed over the ranks (in float32: exact for counts below 2^24)."""
        if self.is_alone:
            return list(numbers)
        asked = float(self._session.stopping is not None)
        told: Any = self._all(mx.distributed.all_sum, mx.array([*numbers, asked], mx.float32)).tolist()
        *sums, stops = told
        self._asked = stops > 0
        return sums

    def most(self, *numbers: float) -> list[float]:
        """The largest of each number over the ranks."""
        if self.is_alone:
            return list(numbers)
        told: Any = self._all(mx.distributed.all_max, mx.array(numbers, mx.float32)).tolist()
        return list(told)

    def sum(self, tree: Any) -> Any:
        """A tree of float32 arrays, the same on every rank, summed over the ranks.

        Small arrays travel together, in the order of their names: a tree that was read from a file has another
        order than the model's, and every rank must send the same.
        """
        if self.is_alone:
            return tree
        leaves, summed = sorted(tree_flatten(tree), key=lambda leaf: leaf[0]), []
        for some in _buffers(leaves):
            flat = self._all(mx.distributed.all_sum, mx.concatenate([leaf.reshape(-1) for _, leaf in some]))
            ends = [0]
            for _, leaf in some:
                ends.append(ends[-1] + leaf.size)
            parts = mx.split(flat, ends[1:-1])
            summed += [(name, part.reshape(leaf.shape)) for (name, leaf), part in zip(some, parts, strict=True)]
        return tree_unflatten(summed)

    def agree(self, facts: dict[str, str]) -> None:
        """Refuse ranks that see other ``facts`` (digests of files and settings) than rank 0. Raises ConfigError."""
        for what, text in facts.items():
            digest = hashlib.sha256(text.encode()).digest()[:12]
            mine = [float(byte) for byte in digest]
            highest, lowest = self.most(*mine), self.most(*(-byte for byte in mine))
            if any(high != -low for high, low in zip(highest, lowest, strict=True)):
                raise ConfigError(
                    "distributed.different",
                    f"Not every rank sees the same {what}.",
                    "Give all machines the same program and the same data folder at the same path.",
                )

    def own_randomness(self) -> None:
        """Let the ranks draw different random numbers from here on; rank 0 draws those of a single process."""
        if not self.is_first:
            random_stream.put(mx.random.split(random_stream.key(), self.size)[self.rank])

    def _all(self, collective: Callable[..., mx.array], value: mx.array) -> mx.array:
        """``collective`` of ``value``, computed. Raises PeerLost when another rank is gone."""
        mx.eval(value)  # what fails here is this rank's own fault
        try:
            result = collective(value, group=self._inner)
            mx.eval(result)
        except RuntimeError as error:
            raise PeerLost(
                "distributed.peer_lost",
                f"Rank {self.rank} lost the connection to another rank: {error}",
                "See the full log for why that one ended.",
            ) from error
        return result


def join(session: Session, backend: str, size: int) -> Group:
    """Meet the other ranks that mlx.launch has started. Raises ConfigError when they are not ``size``."""
    hint = "See the full log. NCCL needs a device of its own for every rank, the ring only TCP between the machines."
    try:
        inner = mx.distributed.init(strict=True, backend=_link() if backend == "auto" else backend)
    except (RuntimeError, ValueError) as error:
        raise ConfigError("distributed.no_group", f"The ranks could not be connected: {error}", hint) from error
    if inner.size() != size:
        message = f"{inner.size()} ranks met instead of {size}."
        raise ConfigError("distributed.no_group", message, hint)
    group = Group(session, inner)
    group.total()  # nobody goes on before all are here
    return group


def _link() -> str:
    """What mlx.launch has chosen. MLX's own "any" would try links that nobody has set up."""
    return next((link for variable, link in _LINKS.items() if variable in os.environ), "mpi")


def _buffers(leaves: list[tuple[str, mx.array]]) -> list[list[tuple[str, mx.array]]]:
    """``leaves`` in order, cut into groups of about :data:`BUFFER` elements."""
    groups: list[list[tuple[str, mx.array]]] = []
    room = 0
    for name, leaf in leaves:
        if room <= 0:
            groups.append([])
            room = BUFFER
        groups[-1].append((name, leaf))
        room -= leaf.size
    return groups
