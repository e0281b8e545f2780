"""The editor: form and YAML, problems with their places, versions."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from django.contrib.auth.models import User
from django.test import Client

from mlxplatform.core.access import Role, make_user
from pipelines import services
from pipelines.drafts import Draft, blank
from pipelines.models import Pipeline
from tests.pipelines.test_drafts import fields

pytestmark = pytest.mark.django_db
NEW = "/pipelines/new/"


@pytest.fixture
def boss(client: Client) -> Client:
    client.force_login(make_user("ada", Role.EDITOR))
    return client


@pytest.fixture
def pipeline(boss: Client) -> Pipeline:
    return services.from_template(User.objects.get(username="ada"), "chatbot")


def form(draft: Draft, action: str = "save", **changes: str) -> dict[str, str]:
    return {"view": "form", "action": action, **fields(draft), **changes}


def as_yaml(text: str, action: str = "save") -> dict[str, str]:
    return {"view": "yaml", "action": action, "yaml": text}


def text(answer: Any) -> str:
    return str(answer.content.decode())


def test_a_new_one_begins_with_a_step_and_is_saved_with_a_name(boss: Client) -> None:
    assert 'name="s0-uses-model"' in text(boss.get(NEW))
    answer = boss.post(NEW, form(blank(), name="Mine"))
    made = Pipeline.objects.get()
    assert answer["Location"] == f"/pipelines/{made.pk}/" and made.name == "Mine"
    assert made.newest.definition.step("sft").settings == {"method": "sft", "iters": 100}


def test_a_template_is_edited_as_a_copy(boss: Client) -> None:
    content = text(boss.get(NEW, {"template": "research"}))
    assert 'value="research"' not in content and 'id="fold-s10"' in content and "distil_ppo" in content
    assert boss.get(NEW, {"template": "nothing"}).status_code == 404
    assert not Pipeline.objects.exists()


def test_saving_makes_a_version_and_nothing_new_makes_none(boss: Client, pipeline: Pipeline) -> None:
    url, draft = f"/pipelines/{pipeline.pk}/edit/", Draft.of(pipeline.newest.definition)
    assert "Nothing has changed." in text(boss.post(url, form(draft), follow=True))
    draft.steps[0].label = "Teach"
    assert "Saved as version 2." in text(boss.post(url, form(draft), follow=True))
    assert pipeline.newest.definition.step("sft").label == "Teach"


def test_problems_of_the_form_stand_at_their_fields(boss: Client) -> None:
    draft = blank()
    draft.steps[0].uses["data"] = "inputs.model"
    draft.steps[0].settings = "method: nonsense"
    answer = boss.post(NEW, form(draft, name="Mine"))
    content = text(answer)
    assert answer.status_code == 422 and not Pipeline.objects.exists()
    assert 'href="#s0-uses-data"' in content and 'id="s0-uses-data-error"' in content
    assert 'href="#s0-settings"' in content and 'id="s0-settings-error"' in content and "method: nonsense" in content
    assert "Step 1, sft" in content and '<details class="fold" id="fold-s0" open>' in content


def test_settings_that_are_no_yaml_stay_as_they_were_typed(boss: Client) -> None:
    draft = blank()
    draft.steps[0].settings = "iters: ["
    content = text(boss.post(NEW, form(draft, name="Mine")))
    assert ">iters: [</textarea>" in content and 'id="s0-settings-error"' in content


@pytest.mark.parametrize("action", ["add-step", "add-input", "remove-step:0", "keep-step:0", "down-step:0"])
def test_buttons_change_the_form_and_save_nothing(boss: Client, action: str) -> None:
    answer = boss.post(NEW, form(blank(), action, name="Half done"))
    assert answer.status_code == 200 and 'value="Half done"' in text(answer)
    assert not Pipeline.objects.exists()


def test_another_kind_asks_for_other_things(boss: Client) -> None:
    draft = blank()
    draft.steps[0].kind = "gate"
    content = text(boss.post(NEW, form(draft, "keep-step:0")))
    assert 'name="s0-figures"' in content and 'name="s0-uses-data"' not in content
    draft.steps[0].kind, draft.steps[0].settings = "train", "method: ppo"
    assert 'name="s0-uses-reward_model"' in text(boss.post(NEW, form(draft, "keep-step:0")))


def test_both_views_are_the_same_definition(boss: Client, pipeline: Pipeline) -> None:
    url, definition = f"/pipelines/{pipeline.pk}/edit/", pipeline.newest.definition
    answer = boss.post(url, form(Draft.of(definition), "yaml"))
    shown = answer.context["yaml"]
    assert services.parsed(shown) == definition
    back = boss.post(url, as_yaml(shown, "form"))
    assert back.context["draft"] == Draft.of(definition)
    assert pipeline.versions.count() == 1


def test_a_half_done_form_can_be_looked_at_as_yaml(boss: Client) -> None:
    draft = blank()
    draft.steps[0].uses = {}
    answer = boss.post(NEW, form(draft, "yaml"))
    assert answer.status_code == 422 and yaml.safe_load(answer.context["yaml"])["steps"][0]["name"] == "sft"


def test_yaml_is_saved(boss: Client, pipeline: Pipeline) -> None:
    wanted = services.template_yaml("domain")
    boss.post(f"/pipelines/{pipeline.pk}/edit/", as_yaml(wanted))
    assert pipeline.newest.definition == services.template_definition("domain")
    pipeline.refresh_from_db()
    assert pipeline.name == "New domain"


@pytest.mark.parametrize(
    ("wanted", "place"),
    [
        ("name: x\nsteps:\n  - name: a\n    kind: [", "Line 4"),
        ("name: x\nsteps:\n  - name: a\n    kind: nonsense\n", "Line 4"),
        ("name: x\nsteps:\n  - {name: a, kind: gate}\n  - name: b\n    kind: gate\n    color: red\n", "Line 6"),
        ("a: &x 1\nb: *x\n", "Line 1"),
        ("just words", "to correct"),
    ],
)
def test_problems_of_yaml_name_the_line_and_the_text_stays(boss: Client, wanted: str, place: str) -> None:
    for action in ("save", "check"):
        answer = boss.post(NEW, as_yaml(wanted, action))
        content = text(answer)
        assert answer.status_code == 422 and place in content and answer.context["yaml"] == wanted
    assert not Pipeline.objects.exists()


def test_a_form_keeps_a_kind_that_it_does_not_know(boss: Client) -> None:
    answer = boss.post(NEW, as_yaml("name: x\nsteps:\n  - name: a\n    kind: nonsense\n", "form"))
    assert '<option value="nonsense" selected>' in text(answer) and 'href="#s0-kind"' in text(answer)


def test_what_has_no_shape_stays_yaml(boss: Client) -> None:
    answer = boss.post(NEW, as_yaml("name: x\nsteps: none\n", "form"))
    assert answer.context["view"] == "yaml" and answer.status_code == 422


def test_check_says_that_it_holds_together(boss: Client) -> None:
    answers = [boss.post(NEW, as_yaml(services.template_yaml("domain"), "check"))]
    answers.append(boss.post(NEW, form(blank(), "check", name="Mine")))
    assert all("It holds together." in text(answer) for answer in answers)
    assert not Pipeline.objects.exists()


def test_the_editor_can_open_as_yaml(boss: Client, pipeline: Pipeline) -> None:
    answer = boss.get(f"/pipelines/{pipeline.pk}/edit/", {"view": "yaml"})
    assert services.parsed(answer.context["yaml"]) == pipeline.newest.definition
