from __future__ import annotations

import pytest

from training.endings import Facts, verdict
from training.engine.run.journal import Event


def word(event, **fields):
    return Event(1, 0.0, event, fields)


SAID = {"code": "data.empty", "message": "No rows.", "hint": "Add some."}


@pytest.mark.parametrize(
    ("facts", "attempt", "job", "reason"),
    [
        (Facts(word("finished")), "succeeded", "succeeded", ""),
        (Facts(word("finished"), exit_signal=9, stop_wanted=True), "succeeded", "succeeded", ""),
        (Facts(word("failed", **SAID), exit_code=3), "failed", "failed", "data.empty"),
        (Facts(word("failed"), stop_wanted=True), "failed", "failed", "engine.failed"),
        (Facts(word("stopped"), stop_wanted=True), "stopped", "stopped", "stopped"),
        (Facts(word("stopped"), pause_wanted=True), "stopped", "paused", "paused"),
        (Facts(word("stopped"), pause_wanted=True, stop_wanted=True), "stopped", "stopped", "stopped"),
        (Facts(word("stopped"), exit_code=10), "drained", "queued", "drained"),
        (Facts(word("stopped"), exit_code=75), "drained", "queued", "drained"),
        (Facts(exit_code=10), "drained", "queued", "drained"),
        (Facts(exit_signal=9, stop_wanted=True), "stopped", "stopped", "stopped"),
        (Facts(exit_signal=9, pause_wanted=True), "stopped", "paused", "paused"),
        (Facts(exit_signal=15, told_to_stop=True), "drained", "queued", "drained"),
        (Facts(exit_signal=15), "lost", "queued", "lost"),
        (Facts(exit_signal=9, out_of_memory=True), "failed", "failed", "memory"),
        (Facts(out_of_memory=True), "failed", "failed", "memory"),
        (Facts(exit_signal=11, out_of_memory=True), "lost", "queued", "lost"),
        (Facts(exit_code=5), "failed", "failed", "memory"),
        (Facts(exit_code=2, output="Bad rate."), "failed", "failed", "config.no_word"),
        (Facts(exit_code=7), "failed", "failed", "storage.no_word"),
        (Facts(exit_code=1), "lost", "queued", "lost"),
        (Facts(exit_code=0), "lost", "queued", "lost"),
        (Facts(), "lost", "queued", "lost"),
        (Facts(losses=2), "lost", "queued", "lost"),
        (Facts(losses=3), "lost", "failed", "lost"),
        (Facts(losses=0, same_step=False), "lost", "queued", "lost"),
        (Facts(losses=2, same_step=True), "lost", "failed", "poisoned"),
    ],
)
def test_verdict(facts, attempt, job, reason):
    end = verdict(facts)
    assert (end.attempt, end.job, end.reason) == (attempt, job, reason)


@pytest.mark.parametrize(
    "facts", [Facts(word("failed", **SAID)), Facts(exit_code=5), Facts(exit_code=2), Facts(losses=3)]
)
def test_a_failure_says_what_is_wrong_and_what_to_do(facts):
    end = verdict(facts)
    assert end.message and end.hint
