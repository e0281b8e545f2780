"""Who starts runs, and a run to try things on."""

from __future__ import annotations

from typing import Any

import pytest

from mlxplatform.core.access import Role, make_user
from pipelines.models import PipelineRun
from tests.pipelines.lives import TWO, pipeline, started


@pytest.fixture
def user(db: None) -> Any:
    return make_user("ed", Role.EDITOR)


@pytest.fixture
def run(user: Any) -> PipelineRun:
    """Two trainings, one after the other; the first is queued."""
    return started(user, pipeline(user, *TWO))
