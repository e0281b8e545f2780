"""Pages of jobs: what is drawn, who may act, and how much the database is asked."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone

from mlxplatform.core.access import Role, make_user
from tests.browser import seed
from training.engine.catalog.schedules import SCHEDULES
from training.engine.config.training import TrainSettings
from training.models import Job
from training.plan import differences, make, updates_for
from training.views.series import read_log

pytestmark = pytest.mark.django_db
TABS = ["", "charts/", "samples/", "logs/", "checkpoints/", "config/"]


@pytest.fixture(scope="module")
def made(django_db_setup: None, django_db_blocker: Any) -> Iterator[dict[str, Any]]:
    """The rows of a month, made once; each test's own changes are rolled back inside of them."""
    with django_db_blocker.unblock(), transaction.atomic():
        yield seed.fill()
        transaction.set_rollback(True)


@pytest.fixture
def editor(client: Client, made: dict[str, Any]) -> Client:
    client.force_login(made["admin"])
    return client


@pytest.fixture
def viewer(made: dict[str, Any]) -> Client:
    client = Client()
    client.force_login(made["viewer"])
    return client


def text(client: Client, url: str, **query: str) -> str:
    answer = client.get(url, query)
    assert answer.status_code == 200, answer.content[:500]
    return answer.content.decode()


# -- home ----------------------------------------------------------------------------------------


def test_an_empty_home_offers_ways_to_start(client: Client) -> None:
    Job.objects.all().delete()
    client.force_login(make_user("eve", Role.EDITOR))
    page = text(client, "/")
    assert "How do you want to start?" in page
    assert "Train on my file" in page


def test_home_shows_what_runs_waits_failed_and_came_out(editor: Client) -> None:
    page = text(editor, "/")
    for words in ("1,240", "out of memory", "No worker is running", "manage.py serve", "−46\u00a0% vs start", "Queue"):
        assert words in page


def test_a_failure_that_settings_caused_is_not_offered_to_resume(editor: Client, made: dict[str, Any]) -> None:
    Job.objects.filter(state="failed").exclude(reason="diverged.nan").delete()
    page = text(editor, "/")
    assert "See why" in page
    assert "/do/resume/" not in page


def test_the_strip_names_the_running_job(editor: Client) -> None:
    assert "#7 smollm2 · python docs, longer" in text(editor, "/slot/")
    assert "2 waiting" in text(editor, "/slot/")


# -- list ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"state": "failed"}, {"support-bot, rank 64", "support-bot, rate 3e-3"}),
        ({"q": "longer"}, {"smollm2 · python docs, longer"}),
        ({"q": "#5"}, {"qwen on tickets"}),
        ({"q": "qwen tickets"}, {"qwen on tickets", "qwen · support · 5"}),
        ({"q": "nothing like it"}, set()),
    ],
)
def test_the_list_is_filtered_by_the_query_string(editor: Client, query: dict[str, str], found: set[str]) -> None:
    answer = editor.get("/jobs/", query)
    assert {row.job.name for row in answer.context["rows"]} == found


def test_the_list_sorts_by_the_best_loss_with_unknown_ones_last(editor: Client) -> None:
    rows = editor.get("/jobs/", {"sort": "best"}).context["rows"]
    losses = [row.best_val for row in rows]
    known = [loss for loss in losses if loss is not None]
    assert known == sorted(known)
    assert losses[-2:] == [None, None]


def test_the_list_asks_the_database_the_same_number_of_times_for_2_and_for_50_rows(
    editor: Client, made: dict[str, Any], django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(7):  # session, user, count, rows, metrics, and two for the time left
        editor.get("/jobs/", {"q": "smollm2", "sort": "number"})
    make_many(made, 60)
    with django_assert_num_queries(7):
        answer = editor.get("/jobs/", {"q": "smollm2", "sort": "number"})
    assert len(answer.context["rows"]) == 50


def test_five_thousand_jobs_are_listed_within_a_second(editor: Client, made: dict[str, Any]) -> None:
    make_many(made, 5000)
    began = time.perf_counter()
    for query in ({}, {"sort": "best"}, {"q": "many 4999"}, {"state": "succeeded", "page": "80"}):
        assert editor.get("/jobs/", query).status_code == 200
    assert (time.perf_counter() - began) / 4 < 1.0


def make_many(made: dict[str, Any], count: int) -> None:
    first = made["succeeded"]
    Job.objects.bulk_create(
        Job(
            number=1000 + n,
            name=f"smollm2 many {n}",
            owner=made["admin"],
            state="succeeded",
            settings=first.settings,
            model_version=first.model_version,
            dataset_version=first.dataset_version,
            ended_at=timezone.now(),
        )
        for n in range(count)
    )


def test_a_viewer_sees_no_buttons(viewer: Client, made: dict[str, Any]) -> None:
    assert "New job" not in text(viewer, "/jobs/")
    page = text(viewer, f"/jobs/{made['running'].pk}/")
    assert "Stop and keep" not in page
    assert "/do/" not in page
    assert viewer.post(f"/jobs/{made['running'].pk}/do/stop/").status_code == 403
    assert viewer.get("/jobs/new/").status_code == 403


def test_a_number_leads_to_the_job(editor: Client, made: dict[str, Any]) -> None:
    job = made["running"]
    assert editor.get(f"/jobs/{job.number}/").headers["Location"] == f"/jobs/{job.pk}/"
    assert editor.get("/jobs/4711/").status_code == 404


def test_selected_jobs_are_deleted_and_the_refused_one_is_named(editor: Client, made: dict[str, Any]) -> None:
    keys = [str(made["failed"].pk), str(made["running"].pk), "no id"]
    answer = editor.post("/jobs/selected/", {"action": "delete", "job": keys}, follow=True)
    assert "Job #7 is running" in answer.content.decode()
    assert Job.objects.get(pk=made["failed"].pk).deleted_at is not None


def test_next_never_leads_to_another_site(editor: Client) -> None:
    answer = editor.post("/jobs/selected/", {"next": "//evil.example/"})
    assert answer.headers["Location"] == "/jobs/"


# -- new -----------------------------------------------------------------------------------------


def test_the_form_starts_a_job_that_is_what_the_plan_said(editor: Client, made: dict[str, Any]) -> None:
    posted = {
        "model": made["model"].pk,
        "data": made["data"].pk,
        "effort": "taste",
        "learning_rate": "2e-4",
        "key": "k",
    }
    answer = editor.post("/jobs/new/", posted)
    job = Job.objects.get(idempotency_key="k")
    assert answer.headers["Location"] == f"/jobs/{job.pk}/"
    assert (job.settings["iters"], job.settings["learning_rate"]) == (100, 2e-4)
    assert editor.post("/jobs/new/", posted).headers["Location"] == f"/jobs/{job.pk}/"  # pressed twice


def test_wrong_settings_are_all_named_linked_and_kept(editor: Client, made: dict[str, Any]) -> None:
    posted = {"model": str(uuid.uuid4()), "data": made["data"].pk, "learning_rate": "5", "optimizer.betas.0": "3"}
    answer = editor.post("/jobs/new/", posted)
    page = answer.content.decode()
    assert answer.status_code == 422
    for part in ('href="#choose-model"', 'href="#f-learning_rate"', 'href="#f-optimizer-betas-0"', 'value="5"'):
        assert part in page
    assert "3 things to correct" in page


def test_a_clone_is_prefilled_and_knows_its_parent(editor: Client, made: dict[str, Any]) -> None:
    Job.objects.filter(pk=made["failed"].pk).update(settings={**made["failed"].settings, "batch_size": 2})
    page = text(editor, "/jobs/new/", **{"from": str(made["failed"].pk), "max_seq_length": "512"})
    assert 'name="batch_size" type="number"' in page
    assert f'name="parent" value="{made["failed"].pk}"' in page
    assert 'value="512" data-default="1024"' in page


def test_the_plan_counts_updates_tokens_and_differences(editor: Client, made: dict[str, Any]) -> None:
    posted = {"model": made["model"].pk, "data": made["data"].pk, "effort": "standard", "adapter.rank": "8"}
    page = editor.post("/jobs/new/plan/", posted).content.decode()
    for words in ("<strong>360</strong>", "480 rows × 3 ÷ 4", "adapter.rank", "alpha 16"):
        assert words in page, words


def test_the_plan_says_where_the_ranks_run(editor: Client, made: dict[str, Any]) -> None:
    posted = {"model": made["model"].pk, "data": made["data"].pk, "ranks": "8", "hosts": "mini\r\nstudio.local\r\nair"}
    page = editor.post("/jobs/new/plan/", posted).content.decode()
    for words in ("<dt>Ranks</dt>", "this machine and mini, studio.local, air", "8 ranks share micro-batches of 4"):
        assert words in page, words


def test_another_row_brings_its_own_fields(editor: Client) -> None:
    page = editor.post("/jobs/new/block/lr_schedule/", {"lr_schedule": "step"}).content.decode()
    assert 'name="lr_schedule.every"' in page
    assert editor.post("/jobs/new/block/nothing/").status_code == 404


def test_a_schedule_is_drawn_as_the_engine_follows_it() -> None:
    from training.engine.optimizers import factory

    for row in SCHEDULES:
        chosen = row.settings(name=row.name)
        follow = factory.schedule(chosen, 300)
        assert [chosen.multiplier(i, 300) for i in range(300)] == pytest.approx([follow(i) for i in range(300)])


def test_updates_of_an_epoch_count_the_last_incomplete_batch() -> None:
    assert updates_for(TrainSettings(epochs=2, batch_size=4), 10) == (6, 2)
    assert updates_for(TrainSettings(iters=5, batch_size=5), 10) == (5, 2.5)


def test_an_exchanged_block_is_one_difference() -> None:
    before = TrainSettings().model_dump(mode="json")
    after = TrainSettings(optimizer="lion").model_dump(mode="json")
    assert [(c.path, c.before, c.after) for c in differences(before, after)] == [("optimizer", "adamw", "lion")]


def test_the_time_comes_from_the_last_run_like_it(made: dict[str, Any]) -> None:
    settings = TrainSettings(epochs=6)
    plan = make(settings, made["model"], made["data"], made["admin"])
    assert plan is not None
    assert plan.seconds == pytest.approx(720 * 1.1, rel=0.01)
    assert plan.tokens == pytest.approx(720 * 164, rel=0.01)


# -- job -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tab", TABS)
@pytest.mark.parametrize("name", ["running", "failed", "succeeded", "queued"])
def test_every_tab_of_every_state_is_drawn(editor: Client, made: dict[str, Any], name: str, tab: str) -> None:
    job = made[name]
    assert f"#{job.number}" in text(editor, f"/jobs/{job.pk}/{tab}")


def test_the_head_tells_progress_and_figures(editor: Client, made: dict[str, Any]) -> None:
    page = text(editor, f"/jobs/{made['running'].pk}/head/")
    for words in ("1,240", "3,000", "epoch 10.33", "Stop and keep", "step 1,200", "peak 1.92", "left, done"):
        assert words in page, words


def test_a_waiting_job_says_how_many_are_before_it(editor: Client, made: dict[str, Any]) -> None:
    assert "1 job before it" in text(editor, f"/jobs/{made['queued'].pk}/")


def test_a_failure_names_reason_hint_last_lines_and_ways_out(editor: Client, made: dict[str, Any]) -> None:
    page = text(editor, f"/jobs/{made['failed'].pk}/")
    for words in ("Failed: out of memory", "What to do:", "Killed", "batch_size=2&amp;grad_accumulation_steps=2"):
        assert words in page, words


def test_success_is_a_verdict(editor: Client, made: dict[str, Any]) -> None:
    assert "against the model before training" in text(editor, f"/jobs/{made['succeeded'].pk}/")


def test_stop_is_asked_for_and_shown_at_once(editor: Client, made: dict[str, Any]) -> None:
    answer = editor.post(f"/jobs/{made['running'].pk}/do/stop/", headers={"HX-Request": "true"})
    assert "stopping" in answer.content.decode()
    assert Job.objects.get(pk=made["running"].pk).stop_requested_at is not None


def test_an_action_that_no_longer_fits_is_refused(editor: Client, made: dict[str, Any]) -> None:
    assert editor.post(f"/jobs/{made['succeeded'].pk}/do/resume/").status_code == 409
    assert editor.post(f"/jobs/{made['succeeded'].pk}/do/dance/").status_code == 404
    assert editor.get(f"/jobs/{made['succeeded'].pk}/do/resume/").status_code == 405


def test_delete_offers_undo(editor: Client, made: dict[str, Any]) -> None:
    job = made["failed"]
    page = editor.post(f"/jobs/{job.pk}/delete/", follow=True).content.decode()
    assert f"/jobs/{job.pk}/do/restore/" in page
    editor.post(f"/jobs/{job.pk}/do/restore/")
    assert Job.objects.get(pk=job.pk).deleted_at is None


def test_rename(editor: Client, made: dict[str, Any]) -> None:
    editor.post(f"/jobs/{made['failed'].pk}/rename/", {"name": "<b>new</b>"})
    assert "&lt;b&gt;new&lt;/b&gt;" in text(editor, f"/jobs/{made['failed'].pk}/")


def test_the_configuration_tells_where_each_value_comes_from(editor: Client, made: dict[str, Any]) -> None:
    groups = editor.get(f"/jobs/{made['running'].pk}/config/").context["groups"]
    origins = {value.path: value.origin for _, values in groups for value in values}
    assert (origins["epochs"], origins["seed"], origins["steps_per_report"]) == ("Standard", "default", "chosen")


# -- series and log ------------------------------------------------------------------------------


def test_a_thinned_curve_keeps_a_spike(editor: Client, made: dict[str, Any]) -> None:
    from training.models import Metric, MetricRollup

    metric = Metric.objects.get(job=made["running"], name="train_loss")
    MetricRollup.objects.filter(metric=metric, size=256, bucket=2).update(high=99.0)
    answer = editor.get(f"/jobs/{made['running'].pk}/series.json", {"keys": "train_loss,val_loss", "n": "30"}).json()
    assert max(answer["train_loss"]["max"]) == 99.0
    assert len(answer["train_loss"]["step"]) <= 30
    assert answer["val_loss"]["step"] == [0, 300, 600, 900, 1200]
    assert answer["marks"]["checkpoint"] == [300, 600, 900, 1200]


def test_a_short_range_is_given_point_by_point(editor: Client, made: dict[str, Any]) -> None:
    query = {"keys": "train_loss", "n": "100", "from": "20", "to": "90"}
    answer = editor.get(f"/jobs/{made['running'].pk}/series.json", query).json()
    assert answer["train_loss"]["step"] == [20, 40, 60, 80]
    assert answer["train_loss"]["size"] == 1


def test_the_log_is_read_by_offset_without_gap(editor: Client, made: dict[str, Any]) -> None:
    url, whole, at = f"/jobs/{made['running'].pk}/log/", "", 0
    while (page := editor.get(url, {"from": str(at)}).json())["text"]:
        whole, at = whole + page["text"], page["next"]
    assert whole == made["running"].run_dir.attempt(1).stdout.read_text()


def test_the_log_backwards_from_the_end_begins_with_a_whole_line(tmp_path: Any) -> None:
    path = tmp_path / "stdout.log"
    path.write_bytes(b"one\ntwo\nthree\nhalf")
    block, begin, size = read_log(path, -11)
    assert (block, begin, size) == (b"three\n", 8, 18)
    assert read_log(path, begin, before=True)[0] == b"one\ntwo\n"
    assert read_log(tmp_path / "missing") == (b"", 0, 0)


@pytest.mark.parametrize("query", [{"from": "x"}, {"from": "-9" * 40}, {"attempt": "../../secret"}, {"attempt": "99"}])
def test_strange_log_queries_are_harmless(editor: Client, made: dict[str, Any], query: dict[str, str]) -> None:
    assert editor.get(f"/jobs/{made['running'].pk}/log/", query).status_code == 200


def test_strangers_see_nothing(client: Client, made: dict[str, Any]) -> None:
    job = made["running"].pk
    for url in (
        "/",
        "/slot/",
        "/jobs/",
        f"/jobs/{job}/",
        f"/jobs/{job}/series.json",
        f"/jobs/{job}/log/",
        "/jobs/new/",
    ):
        assert client.get(url).status_code == 302, url
