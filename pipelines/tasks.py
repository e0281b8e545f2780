"""Messages of the queue. Each carries an id at most, and may be lost or doubled: the sweep looks at every open run."""

from __future__ import annotations

from uuid import UUID

from huey import crontab
from huey.contrib.djhuey import close_db, db_periodic_task, db_task, on_startup

from pipelines import services


@db_task()
def advance_run(run_id: str) -> None:
    """Do what is next in this run."""
    services.advance(UUID(run_id))


@db_periodic_task(crontab(minute="*"))
def sweep() -> None:
    """Do what is next in every run that has not ended, whatever became of the messages."""
    services.advance_all()


@on_startup("pipelines.look")
@close_db
def look() -> None:
    """The same when a worker starts: messages to the one before are gone with it."""
    services.advance_all()
