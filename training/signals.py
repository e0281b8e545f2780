"""News for the rooms above, sent after commit. Receivers only enqueue."""

from __future__ import annotations

from django.dispatch import Signal

#: A job waits for a slot. Argument: ``job_id``.
job_queued = Signal()
#: A job reached an end (stopped, paused, succeeded or failed). Argument: ``job_id``.
job_finished = Signal()
