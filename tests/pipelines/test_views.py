"""Pages of pipelines: the gallery, the form of a run, the editor, the run and its buttons."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from django.test import Client

from mlxplatform.core.access import Role, make_user
from pipelines import files, services
from pipelines.catalog import TEMPLATES
from pipelines.models import Pipeline, PipelineRun, StepRun
from registry.models import ModelVersion
from tests.pipelines.definitions import ALONE
from tests.pipelines.scenes import Scene, make_data

pytestmark = pytest.mark.django_db
CHATBOT = "/pipelines/t/chatbot/"


@pytest.fixture
def boss(client: Client) -> Client:
    client.force_login(make_user("ada", Role.EDITOR))
    return client


@pytest.fixture
def viewer() -> Client:
    made = Client()
    made.force_login(make_user("vera", Role.VIEWER))
    return made


@pytest.fixture
def scene(boss: Client) -> Scene:
    from django.contrib.auth.models import User

    return Scene(User.objects.get(username="ada"))


def text(answer: Any) -> str:
    return str(answer.content.decode())


def chosen(scene: Scene, template: str = "chatbot", **more: str) -> dict[str, str]:
    return {f"input-{name}": value for name, value in {**scene.inputs(template), **more}.items()}


def page(client: Client, run: PipelineRun, step: str = "") -> str:
    answer = client.get(f"/pipelines/runs/{run.pk}/", {"step": step} if step else {})
    assert answer.status_code == 200
    return text(answer)


def test_the_gallery_without_anything_shows_the_templates(boss: Client) -> None:
    content = text(boss.get("/pipelines/"))
    assert all(f'href="/pipelines/t/{name}/"' in content for name in TEMPLATES.names)
    assert "None yet" in content and "Recent runs" not in content
    assert 'aria-label="Steps: Teach answers, Prefer better ones, Measure' in content


def test_the_gallery_lists_pipelines_with_their_last_run(boss: Client, scene: Scene) -> None:
    run, _ = scene.approval()
    content = text(boss.get("/pipelines/"))
    assert f'href="/pipelines/{run.version.pipeline_id}/"' in content and "Recent runs" in content
    assert content.count("state-approval") >= 2  # in both lists: only a person is awaited


@pytest.mark.parametrize("name", TEMPLATES.names)
def test_every_template_has_a_page_with_its_form(boss: Client, name: str) -> None:
    content = text(boss.get(f"/pipelines/t/{name}/"))
    definition = services.template_definition(name)
    assert all(f'name="input-{one}"' in content for one in definition.inputs)
    assert all(step.title in content for step in definition.steps)


def test_only_what_fits_can_be_chosen(boss: Client, scene: Scene) -> None:
    content = text(boss.get(CHATBOT))
    pairs = re.search(r'<select id="f-pairs".*?</select>', content, re.S)
    assert pairs and str(scene.pairs.pk) in pairs.group() and str(scene.data.pk) not in pairs.group()
    assert "Import one" not in content


def test_what_is_missing_is_said_with_a_way_to_get_it(boss: Client) -> None:
    content = text(boss.get(CHATBOT))
    assert content.count("There is no data set of this form yet.") == 2 and 'href="/datasets/new/"' in content


def test_start_makes_the_pipeline_and_its_run(boss: Client, scene: Scene) -> None:
    answer = boss.post(CHATBOT, {**chosen(scene), "key": "once"})
    run = PipelineRun.objects.get()
    assert answer["Location"] == f"/pipelines/runs/{run.pk}/"
    assert run.inputs["updates"] == 40 and run.version.pipeline.template == "chatbot"
    boss.post(CHATBOT, {**chosen(scene), "key": "once"})
    assert PipelineRun.objects.count() == 1 and Pipeline.objects.count() == 1


def test_all_problems_stand_beside_their_fields_and_nothing_is_made(boss: Client, scene: Scene) -> None:
    answer = boss.post(CHATBOT, chosen(scene, model="", pairs=str(scene.data.pk), updates="many"))
    content = text(answer)
    assert answer.status_code == 422 and "3 things to correct" in content
    for name in ("model", "pairs", "updates"):
        assert f'href="#f-{name}"' in content and f'id="f-{name}-error"' in content
    assert 'value="many"' in content
    assert f'value="{scene.data.pk}" selected' in content  # what was right stays chosen
    assert not Pipeline.objects.exists() and not PipelineRun.objects.exists()


def test_a_pipeline_has_its_runs_versions_and_the_last_choice(boss: Client, scene: Scene) -> None:
    run = scene.start("chatbot")
    other = make_data("Newer tickets", "chat")
    content = text(boss.get(f"/pipelines/{run.version.pipeline_id}/"))
    assert f'href="/pipelines/runs/{run.pk}/"' in content and "Version 1" in content
    assert f'value="{scene.data.pk}" selected' in content and f'value="{other.pk}" selected' not in content
    assert 'value="40"' in content


def test_export_is_yaml_that_reads_back(boss: Client, scene: Scene) -> None:
    pipeline = services.from_template(scene.owner, "research")
    answer = boss.get(f"/pipelines/{pipeline.pk}/yaml/")
    assert 'filename="research.yaml"' in answer["Content-Disposition"]
    assert services.parsed(text(answer)) == pipeline.newest.definition
    assert boss.get(f"/pipelines/{pipeline.pk}/yaml/", {"v": "9"}).status_code == 404


def test_deleting_takes_it_out_of_sight_but_not_while_it_runs(boss: Client, scene: Scene) -> None:
    run = scene.start("chatbot")
    pipeline = run.version.pipeline
    assert boss.post(f"/pipelines/{pipeline.pk}/delete/").status_code == 409
    PipelineRun.objects.update(state="cancelled")
    assert boss.post(f"/pipelines/{pipeline.pk}/delete/")["Location"] == "/pipelines/"
    assert boss.get(f"/pipelines/{pipeline.pk}/").status_code == 404
    assert pipeline.name in page(boss, run)


def test_the_run_shows_every_step_with_its_state(boss: Client, scene: Scene) -> None:
    run = scene.start("chatbot")
    scene.goes_on(run, "sft")
    content = page(boss, run)
    assert 'hx-trigger="every 2s"' in content and "63 %" in content
    assert content.count('class="node is-waiting"') == 5 and 'class="node is-running"' in content
    assert "It runs for the first time." in content and "Waits for" not in content
    assert "Waits for Prefer better ones." in page(boss, run, "measure")


def test_a_queued_job_is_told_as_such(boss: Client, scene: Scene) -> None:
    content = page(boss, scene.start("chatbot"))
    assert 'class="node is-queued"' in content and "0 %" not in content


def test_a_gate_shows_its_comparisons_with_margins(boss: Client, scene: Scene) -> None:
    run, _ = scene.approval()
    content = page(boss, run, "gate")
    assert "after.loss &lt; sft.first_val_loss" in content and "1.91" in content and "2.87" in content
    assert "0.9604" in content


def test_the_approval_shows_the_evidence_and_asks(boss: Client, scene: Scene) -> None:
    run, step = scene.approval()
    content = page(boss, run)  # it is the step that matters most
    assert "Shall this become the champion?" in content and f'value="{step.digest}"' in content
    assert "Open Settings, then Security." in content and "6.77" in content
    version = ModelVersion.objects.get(pk=run.steps.get(name="dpo").outputs["model"])
    assert f'href="/models/versions/{version.pk}/"' in content


@pytest.mark.parametrize(("answer", "state"), [("approve", "succeeded"), ("reject", "failed")])
def test_an_answer_is_kept_with_its_note(boss: Client, scene: Scene, answer: str, state: str) -> None:
    run, step = scene.approval()
    posted = {"digest": step.digest, "note": "looked at it", "answer": answer}
    found = boss.post(f"/pipelines/runs/{run.pk}/steps/approve/decide/", posted)
    assert found["Location"] == f"/pipelines/runs/{run.pk}/?step=approve"
    step.refresh_from_db()
    assert step.state == state and step.approvals.get().note == "looked at it"
    assert "looked at it" in page(boss, run, "approve")


def test_home_says_that_a_decision_is_awaited(boss: Client, scene: Scene) -> None:
    run, step = scene.approval()
    link = f'href="/pipelines/runs/{run.pk}/?step=approve"'
    content = text(boss.get("/"))
    assert link in content and "Shall this become the champion?" in content
    services.approve(scene.owner, step, step.digest)
    assert link not in text(boss.get("/"))


def test_an_answer_to_something_else_is_refused_on_the_page(boss: Client, scene: Scene) -> None:
    run, step = scene.approval()
    posted = {"digest": "0" * 64, "answer": "approve"}
    found = boss.post(f"/pipelines/runs/{run.pk}/steps/approve/decide/", posted, follow=True)
    assert "What you saw is not what waits now." in text(found)
    step.refresh_from_db()
    assert step.state == "approval"


def test_a_failed_step_says_why_and_can_be_tried_again(boss: Client, scene: Scene) -> None:
    run = scene.start("chatbot")
    scene.fails(run, "sft")
    content = page(boss, run)
    assert "ran out of memory" in content and "Try again" in content and 'hx-trigger="every' not in content
    assert content.count('class="node is-skipped"') == 5
    boss.post(f"/pipelines/runs/{run.pk}/steps/sft/retry/")
    assert set(run.steps.values_list("state", flat=True)) == {"running", "waiting"}
    found = boss.post(f"/pipelines/runs/{run.pk}/steps/sft/retry/", follow=True)
    assert "There is nothing to try again." in text(found) or "Choose one that failed." in text(found)


def test_pause_resume_and_cancel(boss: Client, scene: Scene) -> None:
    run = scene.start("chatbot")
    boss.post(f"/pipelines/runs/{run.pk}/do/pause/")
    content = page(boss, run)
    assert "Nothing new begins." in content and 'class="node is-paused"' in content
    boss.post(f"/pipelines/runs/{run.pk}/do/resume/")
    boss.post(f"/pipelines/runs/{run.pk}/do/cancel/")
    assert "Stopping…" in page(boss, run)
    assert boss.post(f"/pipelines/runs/{run.pk}/do/explode/").status_code == 404


def test_an_equal_step_is_told_as_reused(boss: Client, scene: Scene) -> None:
    first, _ = scene.approval()
    again = scene.start("chatbot")
    content = page(boss, again, "sft")
    assert f"Taken from run #{first.number}" in content and f"/pipelines/runs/{first.pk}/?step=sft" in content


def test_a_version_leads_back_to_its_step(boss: Client, scene: Scene) -> None:
    run, _ = scene.approval()
    key = run.steps.get(name="dpo").outputs["model"]
    assert f"/pipelines/runs/{run.pk}/?step=dpo" in text(boss.get(f"/pipelines/made/{key}/"))
    assert f'hx-get="/pipelines/made/{key}/"' in text(boss.get(f"/models/versions/{key}/"))
    assert text(boss.get(f"/pipelines/made/{scene.model.pk}/")).strip() == ""


def test_the_live_part_is_the_page_without_its_frame(boss: Client, scene: Scene) -> None:
    run = scene.start("chatbot")
    content = text(boss.get(f"/pipelines/runs/{run.pk}/live/", {"step": "dpo"}))
    assert content.strip().startswith("<div") and "<html" not in content and 'id="run"' in content
    assert f'hx-get="/pipelines/runs/{run.pk}/live/?step=dpo"' in content


def test_a_kind_that_is_gone_still_displays(boss: Client, scene: Scene) -> None:
    run = scene.start("chatbot")
    body = {**run.version.body}
    body["steps"] = [{**body["steps"][0], "kind": "gone"}, *body["steps"][1:]]
    type(run.version).objects.filter(pk=run.version_id).update(body=body)
    StepRun.objects.filter(run=run, name="sft").update(kind="gone")
    assert "gone" in page(boss, run, "sft")
    assert boss.get(f"/pipelines/{run.version.pipeline_id}/").status_code == 200


def test_markup_in_names_is_only_text(boss: Client, scene: Scene) -> None:
    raw = {**ALONE, "name": "<script>alert(1)</script>", "description": "<b>bold</b>"}
    pipeline = services.create(scene.owner, services.checked(raw))
    run = services.start(scene.owner, pipeline, {})
    for url in ("/pipelines/", f"/pipelines/{pipeline.pk}/", f"/pipelines/runs/{run.pk}/"):
        content = text(boss.get(url))
        assert "<script>alert(1)" not in content and "<b>bold" not in content


def test_a_viewer_looks_and_changes_nothing(viewer: Client, scene: Scene) -> None:
    run, step = scene.approval()
    pipeline = run.version.pipeline
    content = page(viewer, run)
    assert "An editor decides." in content and "/decide/" not in content and "/do/" not in content
    assert "<form" not in re.sub(r'<form method="post" action="/logout/">', "", text(viewer.get(CHATBOT)))
    posts = (CHATBOT, f"/pipelines/{pipeline.pk}/", f"/pipelines/{pipeline.pk}/delete/", "/pipelines/new/")
    posts += (f"/pipelines/{pipeline.pk}/edit/", f"/pipelines/runs/{run.pk}/do/cancel/")
    assert [viewer.post(url, chosen(scene)).status_code for url in posts] == [403] * len(posts)
    url = f"/pipelines/runs/{run.pk}/steps/approve/decide/"
    assert viewer.post(url, {"digest": step.digest, "answer": "approve"}).status_code == 403
    step.refresh_from_db()
    assert step.state == "approval" and Pipeline.objects.filter(deleted_at=None).count() == 1


def test_what_is_not_there_is_404(boss: Client, scene: Scene) -> None:
    nobody, run = uuid.uuid4(), scene.start("chatbot")
    urls = (f"/pipelines/{nobody}/", f"/pipelines/runs/{nobody}/", "/pipelines/t/nothing/")
    assert [boss.get(url).status_code for url in urls] == [404] * len(urls)
    assert boss.post(f"/pipelines/runs/{run.pk}/steps/nothing/retry/").status_code == 404
    assert boss.post(f"/pipelines/runs/{run.pk}/steps/sft/decide/").status_code == 404


def test_the_run_page_asks_the_same_number_of_questions_for_any_number_of_runs(
    boss: Client, scene: Scene, django_assert_max_num_queries: Any
) -> None:
    for _ in range(3):
        scene.start("chatbot")
    boss.get("/pipelines/")
    with django_assert_max_num_queries(24):
        boss.get("/pipelines/")
    run = PipelineRun.objects.first()
    with django_assert_max_num_queries(45):
        boss.get(f"/pipelines/runs/{run.pk}/")


def test_files_and_form_are_the_same_definition(boss: Client) -> None:
    assert files.dump(services.template_definition("domain")).startswith("schema: 1\nname: New domain")
