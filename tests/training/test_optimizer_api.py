"""Optimizers, schedules and presets over the API."""

from __future__ import annotations

import json

import pytest
from django.test import Client

from mlxplatform.core.access import Role, make_user
from mlxplatform.core.models import AuditEvent
from training.engine.catalog.optimizers import OPTIMIZERS
from training.engine.catalog.schedules import SCHEDULES
from training.models import OptimizerPreset

pytestmark = pytest.mark.django_db
PRESETS = "/api/v1/optimizer-presets"


@pytest.fixture
def editor(client: Client) -> Client:
    client.force_login(make_user("ed", Role.EDITOR))
    return client


@pytest.fixture
def viewer() -> Client:
    made = Client()
    made.force_login(make_user("vi", Role.VIEWER))
    return made


def send(client: Client, method: str, url: str, body: object):
    return client.generic(method, url, json.dumps(body), content_type="application/json")


def codes(answer) -> set[str]:
    return {problem["code"] for problem in answer.json()["errors"]}


def test_every_optimizer_and_schedule_is_explained(viewer: Client) -> None:
    rows = viewer.get("/api/v1/optimizers").json()
    assert [row["name"] for row in rows] == OPTIMIZERS.names
    assert all(row["about"] and row["summary"] and row["settings"]["properties"] for row in rows)
    assert {row["name"]: row["bytes_per_weight"] for row in rows}["adamw"] == 8
    assert [row["name"] for row in viewer.get("/api/v1/schedules").json()] == SCHEDULES.names


@pytest.mark.parametrize("row", SCHEDULES, ids=lambda row: row.name)
def test_a_preview_is_the_curve_that_the_engine_follows(viewer: Client, row) -> None:
    body = {"lr_schedule": row.name, "total": 50, "learning_rate": 1e-3}
    made = send(viewer, "POST", "/api/v1/schedules/preview", body).json()
    schedule = row.settings(name=row.name)
    assert made["step"] == list(range(50))
    assert made["multiplier"] == pytest.approx([schedule.multiplier(step, 50) for step in range(50)])
    assert made["learning_rate"] == pytest.approx([1e-3 * value for value in made["multiplier"]])


def test_a_long_preview_is_thinned_and_keeps_its_ends(viewer: Client) -> None:
    body = {"lr_schedule": {"name": "linear"}, "total": 100_000, "points": 10}
    made = send(viewer, "POST", "/api/v1/schedules/preview", body).json()
    assert (made["step"][0], made["step"][-1]) == (0, 99_999)
    assert len(made["step"]) <= 12


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"lr_schedule": "zigzag", "total": 10}, {"lr_schedule.unknown"}),
        ({"lr_schedule": {"name": "step", "every": 0}, "total": 10}, {"config.greater_than_equal"}),
        ({"lr_schedule": "cosine", "total": 0}, {"config.greater_than_equal"}),
    ],
)
def test_a_schedule_that_cannot_be_is_named(viewer: Client, body, wanted) -> None:
    answer = send(viewer, "POST", "/api/v1/schedules/preview", body)
    assert (answer.status_code, codes(answer)) == (422, wanted)


def test_a_preset_is_made_read_changed_listed_and_deleted(editor: Client) -> None:
    settings = {"optimizer": {"name": "lion"}, "learning_rate": 3e-5, "parameter_groups": ["*.lora_b lr=4"]}
    made = send(editor, "POST", PRESETS, {"name": " Lion, slow ", "settings": settings})
    assert made.status_code == 201
    row = made.json()
    assert (row["name"], row["owner"], row["settings"]["lr_schedule"]["name"]) == ("Lion, slow", "ed", "cosine")
    assert row["settings"]["parameter_groups"] == ["*.lora_b lr=4"]
    url = f"{PRESETS}/{row['id']}"
    changed = send(editor, "PATCH", url, {"settings": {"optimizer": "sgd"}}).json()
    assert (changed["name"], changed["settings"]["optimizer"]["name"]) == ("Lion, slow", "sgd")
    assert [one["id"] for one in editor.get(PRESETS).json()["items"]] == [row["id"]]
    assert editor.delete(url).status_code == 204
    assert editor.get(url).status_code == 404
    actions = AuditEvent.objects.filter(target=f"optimizer preset {row['id']}").order_by("id")
    assert list(actions.values_list("action", flat=True)) == ["preset.create", "preset.change", "preset.delete"]
    assert actions.last().detail["settings"]["optimizer"]["name"] == "sgd"


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"name": " "}, {"name.missing"}),
        ({"name": "x" * 81}, {"name.too_long"}),
        ({"name": "taken"}, {"preset.name_taken"}),
        ({"name": "a", "settings": {"seed": 1, "learning_rate": 7}}, {"preset.unknown", "config.less_than_equal"}),
    ],
)
def test_what_is_wrong_with_a_preset_is_named(editor: Client, body, wanted) -> None:
    OptimizerPreset.objects.create(name="taken")
    answer = send(editor, "POST", PRESETS, body)
    assert (answer.status_code, codes(answer)) == (422, wanted)
    assert OptimizerPreset.objects.count() == 1


def test_a_viewer_looks_and_changes_nothing(viewer: Client) -> None:
    row = OptimizerPreset.objects.create(name="one")
    url = f"{PRESETS}/{row.pk}"
    assert viewer.get(url).status_code == 200
    assert send(viewer, "POST", PRESETS, {"name": "two"}).status_code == 403
    assert send(viewer, "PATCH", url, {"name": "two"}).status_code == 403
    assert viewer.delete(url).status_code == 403
    assert list(OptimizerPreset.objects.values_list("name", flat=True)) == ["one"]
