"""The plan of memory on the road: engine, cache, page, API, and the start that is refused."""

from __future__ import annotations

import os
import time
import uuid
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from mlxplatform.core.access import Role, make_user
from mlxplatform.core.errors import Invalid
from registry.models import ModelVersion, RegisteredModel
from tests.engine import runs
from tests.fakes import tiny
from tests.training.test_api import Caller, code
from tests.training.test_views_data import make_version
from training import asks, memory_plans, services
from training.engine.config.training import TrainSettings
from training.models import DatasetVersion
from training.views.memory import parts

pytestmark = pytest.mark.django_db
SETTINGS = {"iters": 3, "batch_size": 2, "max_seq_length": 64, "sample_tokens": 0}
Chosen = tuple[ModelVersion, DatasetVersion]


@pytest.fixture
def chosen() -> Chosen:
    """A model and data that a real engine can plan for."""
    held, _ = RegisteredModel.objects.get_or_create(name="tiny")
    model = ModelVersion.objects.create(model=held, n=1, kind="base", path=f"models/{uuid.uuid4()}")
    tiny.make(model.folder)
    return model, make_version(runs.rows(6))


@pytest.fixture
def editor(client: Client) -> User:
    user = make_user("grace", Role.EDITOR)
    client.force_login(user)
    return user


def answer(limit: int) -> dict[str, Any]:
    """A plan of 3 GiB."""
    weights = {"name": "weights", "bytes": 3 << 30, "when": "always", "text": "The model.", "at_peak": True}
    update = {"name": "update", "bytes": 1 << 20, "when": "update", "text": "Later.", "at_peak": False}
    less = {"label": "Half of it", "changes": {"batch_size": 1}, "total": 1 << 30, "saves": 2 << 30, "fits": True}
    calibration = {"words": "Not yet measured on this machine."}
    total = {"total": 3 << 30, "limit": limit, "fits": limit >= 3 << 30}
    return {"lines": [weights, update], "calibration": calibration, "suggestions": [less], **total}


def tell(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Let the engine give this answer."""
    monkeypatch.setattr(asks, "_run", lambda command, config, memory: answer(limit))


def start(user: User, chosen: Chosen, **more: Any) -> object:
    ids = {"model_version_id": chosen[0].pk, "dataset_version_id": chosen[1].pk}
    return services.create_training(user, **ids, settings=SETTINGS, **more)


def test_the_engine_plans_and_measures_over_the_api(chosen: Chosen) -> None:
    call = Caller()
    body = {"model_version_id": str(chosen[0].pk), "dataset_version_id": str(chosen[1].pk), "settings": SETTINGS}
    plan = call("POST", "/jobs/memory", {**body, "measure": True}).json()
    assert plan["fits"]
    assert plan["total"] > sum(line["bytes"] for line in plan["lines"] if line["when"] == "always")
    assert 0 < plan["measured"] < plan["total"]
    bad = call("POST", "/jobs/memory", {**body, "settings": {"batch_size": 0}})
    assert (bad.status_code, code(bad)) == (422, "config.greater_than_equal")


def test_the_card_shows_parts_and_what_needs_less(
    client: Client, editor: User, chosen: Chosen, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, 2 << 30)
    posted = {"model": str(chosen[0].pk), "data": str(chosen[1].pk)}
    shown = client.post(reverse("job_memory"), posted).content.decode()
    assert "It does not fit." in shown and 'name="force_memory"' in shown
    assert 'data-fill="{&quot;batch_size&quot;: &quot;1&quot;}"' in shown
    assert shown.count("<rect") == 1  # the update comes at another moment
    assert client.post(reverse("job_memory"), {"model": "", "data": "x"}).content.strip() == b""


def test_the_form_asks_for_the_card_when_it_is_there(client: Client, editor: User, chosen: Chosen) -> None:
    assert f'hx-post="{reverse("job_memory")}"' in client.get(reverse("job_new")).content.decode()


def test_a_start_that_was_found_not_to_fit_is_refused(
    editor: User, chosen: Chosen, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert start(editor, chosen)  # nobody has asked
    tell(monkeypatch, 2 << 30)
    memory_plans.ask(TrainSettings(**SETTINGS), *chosen)
    with pytest.raises(Invalid) as refused:
        start(editor, chosen)
    assert [(p.code, p.hint) for p in refused.value.problems] == [
        ("memory.does_not_fit", "Half of it. Or start it all the same with force_memory.")
    ]
    assert start(editor, chosen, force_memory=True)


def test_the_form_can_start_it_all_the_same(
    client: Client, editor: User, chosen: Chosen, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, 2 << 30)
    posted = {"model": str(chosen[0].pk), "data": str(chosen[1].pk)}
    client.post(reverse("job_memory"), posted)
    refused = client.post(reverse("job_new"), posted)
    assert (refused.status_code, b"would need about 3.00 GiB" in refused.content) == (422, True)
    assert client.post(reverse("job_new"), {**posted, "force_memory": "on"}).status_code == 302


def test_an_old_answer_neither_stands_nor_refuses(
    editor: User, chosen: Chosen, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, 2 << 30)
    settings = TrainSettings(**SETTINGS)
    memory_plans.ask(settings, *chosen)
    kept = asks._place("memory", {"training": memory_plans.question(settings, *chosen)}, "")
    old = time.time() - memory_plans.KNOWN - 1
    os.utime(kept, (old, old))
    assert memory_plans.problems(settings, *chosen) == []
    tell(monkeypatch, 4 << 30)
    assert memory_plans.ask(settings, *chosen)["fits"]


def test_the_bar_ends_where_the_memory_does() -> None:
    assert [(part.name, part.x, part.width) for part in parts(answer(4 << 30))] == [("weights", 0.0, 75.0)]
    assert parts(answer(1 << 30))[0].width == 100.0
