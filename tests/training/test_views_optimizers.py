"""The page of optimizers, and presets in the form of a new job."""

from __future__ import annotations

import pytest
from django.test import Client
from django.utils.html import escape

from mlxplatform.core.access import Role, make_user
from tests.training.runs import make_job
from training.engine.catalog.optimizers import OPTIMIZERS
from training.engine.catalog.schedules import SCHEDULES
from training.engine.config.training import TrainSettings
from training.models import OptimizerPreset
from training.rates import curve
from training.services import create_preset

pytestmark = pytest.mark.django_db
WSD = {"name": "wsd", "decay_ratio": 0.2}


@pytest.fixture
def editor(client: Client) -> Client:
    client.force_login(make_user("ed", Role.EDITOR))
    return client


def preset(name: str = "slow Lion") -> OptimizerPreset:
    settings = {"optimizer": {"name": "lion", "weight_decay": 0.1}, "learning_rate": 3e-5, "lr_schedule": WSD}
    return create_preset(make_user(name[:8], Role.EDITOR), name, settings)


def test_the_page_explains_every_optimizer_and_schedule(editor: Client) -> None:
    page = editor.get("/optimizers/").content.decode()
    for row in (*OPTIMIZERS, *SCHEDULES):
        assert escape(row.summary) in page
    assert "None yet." in page
    assert "arXiv 1711.05101" in page


def test_a_viewer_may_look_and_try_but_not_save() -> None:
    viewer = Client()
    viewer.force_login(make_user("vi", Role.VIEWER))
    page = viewer.get("/optimizers/").content.decode()
    assert "Save as preset" not in page
    assert viewer.post("/optimizers/preview/", {"lr_schedule": "step"}).status_code == 200
    assert viewer.post("/optimizers/presets/", {"preset_name": "mine"}).status_code == 403
    assert not OptimizerPreset.objects.exists()


def test_the_curve_follows_what_is_typed(editor: Client) -> None:
    texts = {"lr_schedule": "one_cycle", "lr_schedule.was": "cosine", "learning_rate": "0.001", "total": "50"}
    page = editor.post("/optimizers/preview/", texts).content.decode()
    assert "50 updates" in page
    assert "one_cycle: highest" in page
    broken = editor.post("/optimizers/preview/", {"learning_rate": "7"}).content.decode()
    assert "<strong>Learning rate:</strong>" in broken
    assert "polyline" not in broken


def test_the_curve_has_its_ends_and_its_peak() -> None:
    made = curve(TrainSettings(learning_rate=1e-3), 1000)
    assert (made.steps[0], made.steps[-1], made.peak) == (0, 999, 32)
    assert made.highest == pytest.approx(1e-3, rel=0.05)
    assert [step for step, _ in made.table][-1] == 999
    assert curve(TrainSettings(), 1).table == [(0, pytest.approx(1e-4))]


def test_a_preset_is_saved_opened_changed_and_deleted(editor: Client) -> None:
    texts = {"preset_name": "slow Lion", "optimizer": "lion", "learning_rate": "3e-5", "save": "new"}
    answer = editor.post("/optimizers/presets/", texts)
    row = OptimizerPreset.objects.get()
    assert answer.headers["Location"] == f"/optimizers/?preset={row.pk}"
    page = editor.get("/optimizers/", {"preset": str(row.pk)}).content.decode()
    assert 'value="3e-05" data-default="0.0001"' in page
    assert "Save changes" in page
    editor.post("/optimizers/presets/", {**texts, "preset": str(row.pk), "save": "changes", "learning_rate": "5e-5"})
    row.refresh_from_db()
    assert row.settings["learning_rate"] == 5e-5
    editor.post(f"/optimizers/presets/{row.pk}/delete/")
    assert not OptimizerPreset.objects.exists()


def test_what_is_wrong_with_a_preset_is_shown_and_nothing_is_lost(editor: Client) -> None:
    texts = {"optimizer": "lion", "learning_rate": "7", "parameter_groups": "*.lora_b speed=2", "total": "77"}
    answer = editor.post("/optimizers/presets/", texts)
    page = answer.content.decode()
    assert answer.status_code == 422
    for part in (
        'href="#f-preset_name"',
        'href="#f-learning_rate"',
        'value="7"',
        "Line 1, *.lora_b speed=2: ",
        'value="77"',
    ):
        assert part in page, part


def test_a_preset_fills_the_form_of_a_new_job_and_leaves_the_rest(editor: Client) -> None:
    row = preset()
    texts = {
        "preset": str(row.pk),
        "seed": "7",
        "optimizer": "adamw",
        "optimizer.was": "adamw",
        "optimizer.eps": "1e-6",
    }
    page = editor.post("/jobs/new/preset/", texts).content.decode()
    assert '<option value="lion" selected>' in page
    assert '<option value="wsd" selected>' in page
    assert 'value="7" data-default="42"' in page
    assert 'value="3e-05"' in page
    linked = editor.get("/jobs/new/", {"preset": str(row.pk)}).content.decode()
    assert '<option value="lion" selected>' in linked
    assert editor.post("/jobs/new/preset/", {"preset": ""}).status_code == 200


def test_the_form_of_a_new_job_saves_a_preset(editor: Client) -> None:
    make_job()
    texts = {"within": "job", "preset_name": "mine", "optimizer": "sgd", "learning_rate": "0.01", "batch_size": "2"}
    assert "Saved as" in editor.post("/optimizers/presets/", texts).content.decode()
    assert OptimizerPreset.objects.get().settings["optimizer"]["name"] == "sgd"
    again = editor.post("/optimizers/presets/", texts)
    assert again.status_code == 200
    assert "There is a preset called" in again.content.decode()
