"""One process at work: its lock, its ears, and exactly one last word."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine import runs
from training.engine.errors import ConfigError, DataError, EngineError, Exit, MemoryShortage, StopAsked, StorageError
from training.engine.run import rundir
from training.engine.run.rundir import RunDir
from training.engine.run.session import Session, boot_id

SLOW = {"iters": 100_000, "lr_schedule": "constant", "grad_accumulation_steps": 4, "steps_per_eval": 10**6}
SLOW |= {"save_every": 10**6}


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(RunDir(tmp_path / "run"), RunDir(tmp_path / "run").attempt(1))


def raising(error: Exception) -> Callable[[Session], dict[str, Any]]:
    def work(session: Session) -> dict[str, Any]:
        raise error

    return work


def test_who_starts_says_who_it_is(session: Session) -> None:
    assert session.run(lambda s: {"a": 1}) == Exit.FINISHED
    first, last = runs.events(session.run_dir.root)
    assert (first.fields["pid"], first.fields["attempt"], first.fields["fence"]) == (os.getpid(), 1, 0)
    assert first.fields["boot_id"] == boot_id()
    assert last.fields == {"result": {"a": 1}}


@pytest.mark.parametrize(
    ("error", "code", "exit_code"),
    [
        (ConfigError("config.x", "Wrong."), "config.x", Exit.CONFIG),
        (DataError("data.x", "Wrong."), "data.x", Exit.DATA),
        (MemoryShortage("memory.x", "Wrong."), "memory.x", Exit.MEMORY),
        (RuntimeError("[malloc] Unable to allocate 99 bytes"), "memory.out", Exit.MEMORY),
        (MemoryError(), "memory.out", Exit.MEMORY),
        (OSError(28, "No space left on device"), "storage.full", Exit.STORAGE),
        (ZeroDivisionError("x"), "bug.engine", Exit.BUG),
    ],
)
def test_whatever_happens_becomes_one_last_word(
    error: Exception, code: str, exit_code: Exit, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    assert session.run(raising(error)) == exit_code
    word = runs.last(session.run_dir.root)
    assert (word.event, word.fields["code"]) == ("failed", code)
    assert ("Traceback" in word.fields["trace"]) == (not isinstance(error, EngineError))
    assert word.fields["message"] in capsys.readouterr().err


@pytest.mark.parametrize("exit_code", [Exit.STOPPED, Exit.UNWATCHED])
def test_a_stop_is_no_failure(exit_code: Exit, session: Session) -> None:
    assert session.run(raising(StopAsked("why not", exit_code))) == exit_code
    assert runs.last(session.run_dir.root).fields == {"why": "why not", "exit_code": int(exit_code)}


def test_a_last_word_that_cannot_be_written_is_still_an_exit_code(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    def work(session: Session) -> dict[str, Any]:
        monkeypatch.setattr(os, "write", refuse)
        raise StopAsked("signal SIGTERM", Exit.STOPPED)

    assert session.run(work) == Exit.STORAGE


def test_a_reader_that_goes_away_does_not_end_the_work(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def write(self, text: str) -> None:
            raise BrokenPipeError

        flush = write

    monkeypatch.setattr("sys.stderr", Gone())
    assert session.run(raising(DataError("data.x", "Wrong."))) == Exit.DATA
    assert runs.last(session.run_dir.root).fields["code"] == "data.x"


def test_phases_are_thinned_to_percents(session: Session) -> None:
    for done in range(1000):
        session.phase("read", done, 1000)
    assert len(runs.events(session.run_dir.root)) == 100


def test_two_engines_do_not_share_a_run(session: Session) -> None:
    session.log("first")
    with pytest.raises(StorageError) as refused:
        Session(session.run_dir, session.run_dir.attempt(2))
    assert refused.value.code == "storage.locked"
    session.log("undisturbed")
    assert [e.n for e in runs.events(session.run_dir.root)] == [1, 2]
    assert not session.run_dir.attempt(2).root.exists()


def test_an_attempt_that_has_ended_is_not_gone_on_with(session: Session) -> None:
    session.run(lambda s: {})
    assert session._lock is not None
    os.close(session._lock)
    with pytest.raises(StorageError) as refused:
        Session(session.run_dir, session.attempt)
    assert refused.value.code == "storage.attempt_ended"
    assert "attempt 2" in refused.value.hint
    assert runs.last(session.run_dir.root).event == "finished"


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = RunDir(tmp_path / "file" / "run")
    with pytest.raises(StorageError) as refused:
        Session(run, run.attempt(1))
    assert refused.value.code == "storage.folder"


def test_sigterm_saves_and_a_second_one_is_harmless(tiny_llama: Path, tmp_path: Path) -> None:
    config = runs.request(tiny_llama, runs.data(tmp_path / "data"), **SLOW)
    process = runs.start(tmp_path / "run", config)
    runs.until(tmp_path / "run", runs.is_step(2), process)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == Exit.STOPPED
    word = runs.last(tmp_path / "run")
    assert (word.event, word.fields) == ("stopped", {"why": "signal SIGTERM", "exit_code": 10})
    told = [e.fields for e in runs.events(tmp_path / "run") if e.event == "checkpoint"]
    assert (tmp_path / "run" / told[-1]["path"] / "manifest.json").is_file()
    assert told[-1]["step"] >= max(runs.points(tmp_path / "run"))


def test_unwatched_it_saves_and_ends_and_watched_it_goes_on(tiny_llama: Path, tmp_path: Path) -> None:
    config = runs.request(tiny_llama, runs.data(tmp_path / "data"), **SLOW)
    attempt = RunDir(tmp_path / "run").attempt(1)
    held = rundir.hold(attempt.watch_lock)
    attempt.prepare(fence=5)
    process = runs.start(tmp_path / "run", config, 1, MLXP_UNWATCHED_S="0.5")
    started = runs.until(tmp_path / "run", lambda e: e.event == "started", process)
    seen = runs.until(tmp_path / "run", lambda e: e.event == "metrics" and e.t > started.t + 2, process)
    assert process.poll() is None  # four times as long as its patience
    assert held is not None
    os.close(held)
    assert process.wait(60) == Exit.UNWATCHED
    word = runs.last(tmp_path / "run")
    assert (word.fields["exit_code"], started.fields["fence"]) == (75, 5)
    assert word.t > seen.t
    assert any(e.event == "checkpoint" for e in runs.events(tmp_path / "run"))


def test_by_hand_nobody_needs_to_watch(session: Session) -> None:
    assert session._is_watched()
    session.attempt.watch_lock.write_text("")
    assert not session._is_watched()
