"""Messages of the queue. Each only rings the supervisor's bell: it may be lost or doubled without harm."""

from __future__ import annotations

from huey.contrib.djhuey import task

from training.dispatch import BELL


@task()
def wake() -> None:
    """Look for queued jobs now."""
    BELL.set()
