"""Every test run has a data folder of its own; no test ever touches the one of this installation."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

#: The data folder of this run; ``tests/home.py`` made it before Django's settings were read.
HOME = Path(os.environ["MLXP_HOME"])


@pytest.fixture
def fake_engine(monkeypatch: pytest.MonkeyPatch):
    """Call it with a mode of ``tests/fakes/engine.py`` to have engines misbehave."""
    from training import process

    def use(mode: str) -> None:
        program = str(Path(__file__).parent / "fakes" / "engine.py")
        monkeypatch.setattr(process, "ENGINE", [sys.executable, program, mode])

    return use


@pytest.fixture
def supervisor(transactional_db: None) -> Iterator[object]:
    """A supervisor that has not been started; whatever it started is killed afterwards."""
    from tests.training.runs import kill_engines
    from training.supervisor import Supervisor

    boss = Supervisor()
    yield boss
    boss.abandon()
    kill_engines()
