"""Where the time of a training goes that makes its own rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SPANS = ("generation", "scoring")
_ASIDE = "aside"


class Shares:
    """Rounds of generation, scoring and, what is left of a round, learning; evaluations are left out."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._since: float | None = None
        self._spent: dict[str, float] = {}
        self._inside = False

    @contextmanager
    def span(self, name: str = _ASIDE) -> Iterator[None]:
        """Time inside counts as ``name``: one of SPANS; without a name it counts nowhere. The outermost one counts."""
        if self._inside:
            yield
            return
        since, self._inside = self._clock(), True
        try:
            yield
        finally:
            self._inside = False
            self._spent[name] = self._spent.get(name, 0.0) + self._clock() - since

    def turn(self) -> dict[str, float]:
        """Begin a round; the shares of the one before, none if there was none."""
        now, spent, since = self._clock(), self._spent, self._since
        self._since, self._spent = now, {}
        if since is None:
            return {}
        whole = max(now - since - spent.get(_ASIDE, 0.0), 1e-9)
        shares = {f"{name}_share": spent.get(name, 0.0) / whole for name in SPANS}
        return {**shares, "learning_share": max(0.0, 1 - sum(shares.values()))}
