"""How an attempt ended, and what becomes of its job: a pure function from facts to a verdict.

The journal's last word decides. Without one the exit code, the signal and what people asked for decide,
and what is left is a loss, after which the job goes on by itself up to a limit.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

from training.engine.errors import Exit
from training.engine.run.journal import Event
from training.states import AttemptState, JobState

MOST_LOSSES = 3  # in a row, without a new checkpoint

MEMORY_HINT = (
    "Try a smaller micro-batch, shorter sequences, gradient checkpointing or a smaller model, "
    "then resume or start anew."
)
#: Exit codes of mistakes that a second try would repeat.
FAMILIES = {
    Exit.CONFIG: "config",
    Exit.DATA: "data",
    Exit.MODEL: "model",
    Exit.DIVERGED: "diverged",
    Exit.STORAGE: "storage",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known when the process is gone and its journal is read to the end."""

    word: Event | None = None
    exit_code: int | None = None  # None: killed, or not our child
    exit_signal: int | None = None
    stop_wanted: bool = False  # stop or kill
    pause_wanted: bool = False
    told_to_stop: bool = False  # we sent SIGTERM
    out_of_memory: bool = False
    losses: int = 1  # in a row without a new checkpoint, this one included if it is one
    same_step: bool = False  # the attempt before was lost at the very same step
    output: str = ""  # last lines of its raw output

    @property
    def asked(self) -> bool:
        """A person asked for the end."""
        return self.stop_wanted or self.pause_wanted


@dataclass(frozen=True, slots=True)
class Verdict:
    """The states to move to, with the reason for people."""

    attempt: AttemptState
    job: JobState
    reason: str = ""
    message: str = ""
    hint: str = ""


def verdict(facts: Facts) -> Verdict:
    """Decide."""
    if facts.word is not None:
        return _by_word(facts, facts.word)
    return _by_exit(facts)


def _by_word(facts: Facts, word: Event) -> Verdict:
    if word.event == "finished":
        return Verdict(AttemptState.SUCCEEDED, JobState.SUCCEEDED)
    if word.event == "failed":
        text = {key: str(word.fields.get(key) or "")[:2000] for key in ("code", "message", "hint")}
        code = text["code"] or "engine.failed"
        return Verdict(AttemptState.FAILED, JobState.FAILED, code[:60], text["message"], text["hint"])
    return _ended(facts, saved=True)


def _ended(facts: Facts, *, saved: bool) -> Verdict:
    """It ended because it was told to: by a person, or because the service goes down."""
    kept = "A checkpoint was saved." if saved else "It did not save again; the last checkpoint is kept."
    if facts.stop_wanted:
        return Verdict(AttemptState.STOPPED, JobState.STOPPED, "stopped", f"Stopped on request. {kept}")
    if facts.pause_wanted:
        return Verdict(AttemptState.STOPPED, JobState.PAUSED, "paused", f"Paused on request. {kept}")
    return Verdict(AttemptState.DRAINED, JobState.QUEUED, "drained", "", "")


def _by_exit(facts: Facts) -> Verdict:
    if facts.asked or facts.exit_code in (Exit.STOPPED, Exit.UNWATCHED):
        return _ended(facts, saved=facts.exit_code in (Exit.STOPPED, Exit.UNWATCHED))
    if facts.told_to_stop and facts.exit_signal == signal.SIGTERM:
        return _ended(facts, saved=False)  # it had not yet learned to listen
    if facts.exit_code == Exit.MEMORY or (facts.out_of_memory and _killed(facts)):
        message = "The machine ran out of memory and the training was ended by the system."
        return Verdict(AttemptState.FAILED, JobState.FAILED, "memory", message, MEMORY_HINT)
    family = FAMILIES.get(Exit(facts.exit_code)) if facts.exit_code in FAMILIES else None
    if family:
        message = facts.output or f"The engine ended with exit code {facts.exit_code} without a word."
        return Verdict(AttemptState.FAILED, JobState.FAILED, f"{family}.no_word", message, "See the full log.")
    return _lost(facts)


def _lost(facts: Facts) -> Verdict:
    how = f"signal {facts.exit_signal}" if facts.exit_signal else f"exit code {facts.exit_code}"
    how = how if facts.exit_signal or facts.exit_code is not None else "no trace"
    if facts.same_step:
        message = f"The engine died twice at the same step ({how})."
        hint = "See the full log; change the batch or the sequence length, or resume to try once more."
        return Verdict(AttemptState.LOST, JobState.FAILED, "poisoned", message, hint)
    if facts.losses >= MOST_LOSSES:
        message = f"The engine died {facts.losses} times without a new checkpoint ({how}). {facts.output}".strip()
        hint = "See the full log, then resume: it goes on from the last checkpoint."
        return Verdict(AttemptState.LOST, JobState.FAILED, "lost", message, hint)
    return Verdict(AttemptState.LOST, JobState.QUEUED, "lost", f"The engine died ({how}); it goes on by itself.", "")


def _killed(facts: Facts) -> bool:
    """Ended by SIGKILL as far as is known; of another worker's child nothing is known."""
    return facts.exit_signal == signal.SIGKILL or (facts.exit_signal is None and facts.exit_code is None)
