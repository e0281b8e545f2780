"""Pipelines over the API."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
import yaml
from django.test import Client

from mlxplatform.core.access import Role, make_user
from pipelines import services
from pipelines.catalog import TEMPLATES
from pipelines.models import Pipeline, PipelineRun
from tests.pipelines.definitions import ALONE, MEASURED, make_inputs, measured
from training.models import Job

pytestmark = pytest.mark.django_db
ROOT, RUNS = "/api/v1/pipelines", "/api/v1/pipeline-runs"
NOBODY = uuid.UUID(int=7)


class Caller:
    """A signed-in program."""

    def __init__(self, role: Role) -> None:
        self.client = Client(HTTP_HOST="localhost")
        self.client.force_login(make_user(role, role))

    def __call__(self, method: str, path: str, body: Any = None, status: int = 200, **headers: str) -> Any:
        sent = "" if body is None else json.dumps(body)
        answer = self.client.generic(method, path, sent, content_type="application/json", headers=headers)
        assert answer.status_code == status, answer.content
        text = answer.content.decode()
        return json.loads(text) if text and "json" in answer.get("Content-Type", "") else text


@pytest.fixture
def call() -> Caller:
    return Caller(Role.EDITOR)


@pytest.fixture
def key(call: Caller) -> str:
    """The id of a pipeline."""
    return str(call("POST", ROOT, {"definition": MEASURED}, 201)["id"])


@pytest.fixture
def run(call: Caller, key: str) -> dict[str, Any]:
    """A run whose evaluation is queued."""
    made = call("POST", f"{ROOT}/{key}/runs", {"inputs": make_inputs()}, 201)
    services.advance(uuid.UUID(made["id"]))
    found: dict[str, Any] = call("GET", f"{RUNS}/{made['id']}")
    return found


def steps(found: dict[str, Any]) -> dict[str, str]:
    return {step["name"]: step["state"] for step in found["steps"]}


def codes(refused: dict[str, Any]) -> list[str]:
    return [problem["code"] for problem in refused["errors"]]


def test_a_definition_comes_back_as_it_went_in(call: Caller, key: str) -> None:
    found = call("GET", f"{ROOT}/{key}")
    assert found["definition"] == MEASURED
    assert (found["name"], found["version"], found["steps"], found["owner"]) == ("Measured", 1, 3, "editor")
    (row,) = call("GET", ROOT)["items"]
    assert row["id"] == key and "definition" not in row


def test_yaml_goes_out_and_in(call: Caller, key: str) -> None:
    text = call("GET", f"{ROOT}/{key}/yaml")
    assert yaml.safe_load(text) == MEASURED
    again = call("POST", ROOT, {"yaml": text}, 201)
    assert again["id"] != key and again["definition"] == MEASURED


def test_a_change_is_a_new_version_and_no_change_is_none(call: Caller, key: str) -> None:
    other = {**MEASURED, "name": "Renamed"}
    assert call("PATCH", f"{ROOT}/{key}", {"definition": other})["version"] == 2
    found = call("PATCH", f"{ROOT}/{key}", {"definition": other})
    assert (found["version"], found["name"]) == (2, "Renamed")
    first = call("GET", f"{ROOT}/{key}/versions", None)["items"]
    assert [(one["n"], one["definition"]["name"]) for one in first] == [(2, "Renamed"), (1, "Measured")]
    assert "name: Measured" in call("GET", f"{ROOT}/{key}/yaml?version=1")
    assert codes(call("GET", f"{ROOT}/{key}/yaml?version=3", status=404)) == ["pipeline.no_version"]


def test_lists_go_on_by_cursor(call: Caller) -> None:
    for name in ("c", "a", "b"):
        key = call("POST", ROOT, {"definition": {**ALONE, "name": name}}, 201)["id"]
        call("POST", f"{ROOT}/{key}/runs", {}, 201)
    first = call("GET", f"{ROOT}?limit=2")
    rest = call("GET", f"{ROOT}?limit=2&cursor={first['next']}")
    assert [row["name"] for row in first["items"] + rest["items"]] == ["a", "b", "c"] and rest["next"] is None
    first = call("GET", f"{RUNS}?limit=2")
    rest = call("GET", f"{RUNS}?limit=2&cursor={first['next']}")
    assert [row["pipeline"] for row in first["items"] + rest["items"]] == ["b", "a", "c"]


def test_a_deleted_pipeline_is_gone_and_its_runs_are_not(call: Caller, key: str, run: dict[str, Any]) -> None:
    assert codes(call("DELETE", f"{ROOT}/{key}", status=409)) == ["pipeline.busy"]
    call("POST", f"{RUNS}/{run['id']}/cancel")
    Job.objects.update(state="stopped")
    services.advance(uuid.UUID(run["id"]))
    call("DELETE", f"{ROOT}/{key}", status=204)
    assert call("GET", ROOT)["items"] == []
    assert codes(call("GET", f"{ROOT}/{key}", status=404)) == ["pipeline.unknown"]
    assert codes(call("POST", f"{ROOT}/{key}/runs", {}, 404)) == ["pipeline.unknown"]
    assert call("GET", f"{RUNS}/{run['id']}")["definition"] == MEASURED


@pytest.mark.parametrize("body", [{}, {"definition": MEASURED, "template": "chatbot"}])
def test_exactly_one_definition_is_taken(call: Caller, body: dict[str, Any]) -> None:
    assert codes(call("POST", ROOT, body, 422)) == ["pipeline.one_of"]
    assert codes(call("POST", f"{ROOT}/validate", body, 422)) == ["pipeline.one_of"]


def test_all_problems_come_at_once_with_their_places(call: Caller) -> None:
    wrong = json.loads(json.dumps(MEASURED))
    wrong["steps"][0]["kind"] = "dance"
    wrong["steps"][1]["settings"]["condition"] = "loss <"
    wrong["steps"][2]["after"] = ["nobody"]
    refused = call("POST", ROOT, {"definition": wrong}, 422)
    found = {problem["code"]: problem["loc"] for problem in refused["errors"]}
    assert found["step.kind"] == ["steps", 0, "kind"]
    assert found["condition.malformed"] == ["steps", 1, "settings", "condition"]
    assert found["step.unknown"] == ["steps", 2, "after", 0]
    assert Pipeline.objects.count() == 0
    judged = call("POST", f"{ROOT}/validate", {"definition": wrong})
    assert (judged["ok"], [{**one, "line": None} for one in refused["errors"]]) == (False, judged["errors"])


def test_validate_names_the_line(call: Caller) -> None:
    text = 'schema: 1\nname: Lines\nsteps:\n  - name: gate\n    kind: gate\n    settings: {condition: "loss <"}\n'
    (error,) = call("POST", f"{ROOT}/validate", {"yaml": text})["errors"]
    assert (error["code"], error["line"]) == ("condition.malformed", 6)
    (error,) = call("POST", f"{ROOT}/validate", {"yaml": "a: &x 1\nb: *x\n"})["errors"]
    assert error["code"] == "pipeline.yaml" and "Line 1" in error["message"]


def test_validate_judges_a_choice_too_and_stores_nothing(call: Caller) -> None:
    chosen = make_inputs()
    assert call("POST", f"{ROOT}/validate", {"definition": MEASURED, "inputs": chosen})["ok"]
    judged = call("POST", f"{ROOT}/validate", {"definition": MEASURED, "inputs": {"model": chosen["model"], "x": 1}})
    assert sorted(codes(judged)) == ["input.missing", "input.unknown"]
    assert all(call("POST", f"{ROOT}/validate", {"template": name})["ok"] for name in TEMPLATES.names)
    assert Pipeline.objects.count() == PipelineRun.objects.count() == 0


def test_what_only_overwhelms_is_refused(call: Caller) -> None:
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    for settings in ({"condition": deep}, {"condition": [0] * 30_000}):
        wrong = {**ALONE, "steps": [{**ALONE["steps"][0], "settings": settings}]}
        assert codes(call("POST", ROOT, {"definition": wrong}, 422)) == ["pipeline.large"]
    many = {**ALONE, "steps": [{"name": f"s{n}", "kind": "gate"} for n in range(10_000)]}
    assert call("POST", ROOT, {"definition": many}, 422)["errors"]
    assert Pipeline.objects.count() == 0


def test_half_a_character_is_no_text(call: Caller) -> None:
    text = 'name: "\\ud83d"\nsteps: [{name: a, kind: approve}]'
    assert codes(call("POST", ROOT, {"yaml": text}, 422)) == ["pipeline.text"]
    whole = call("POST", ROOT, {"yaml": text.replace("\\ud83d", "\\U0001F600")}, 201)
    assert whole["name"] == "\U0001f600"


def test_a_run_with_a_setting_out_of_range_is_refused(call: Caller, key: str) -> None:
    refused = call("POST", f"{ROOT}/{key}/runs", {"inputs": {**make_inputs(), "rows": -3}}, 422)
    assert [(one["loc"], one["message"][:22]) for one in refused["errors"]] == [
        (["steps", "measure", "settings", "rows"], "Step 'Measure it': row")
    ]
    assert PipelineRun.objects.count() == 0


def test_a_run_sent_twice_is_one(call: Caller, key: str) -> None:
    sent = [
        call("POST", f"{ROOT}/{key}/runs", {"inputs": make_inputs()}, 201, **{"Idempotency-Key": "k"})["id"]
        for _ in range(2)
    ]
    assert sent[0] == sent[1] and PipelineRun.objects.count() == 1


def test_a_run_from_its_start_to_its_approval(call: Caller, run: dict[str, Any]) -> None:
    assert steps(run) == {"measure": "running", "gate": "waiting", "approve": "waiting"}
    assert run["steps"][0]["label"] == "Measure it" and run["steps"][0]["why"] == "It runs for the first time."
    assert run["steps"][0]["job_id"] == str(Job.objects.get().pk)
    assert run["inputs"]["rows"] == 4
    measured(run["id"], 1.5)
    found = call("GET", f"{RUNS}/{run['id']}")
    assert steps(found) == {"measure": "succeeded", "gate": "succeeded", "approve": "approval"}
    assert found["steps"][0]["outputs"] == {"metrics": {"loss": 1.5}}
    assert found["steps"][1]["details"]["comparisons"][0]["left"] == 1.5
    assert found["progress"] == pytest.approx(2 / 3)
    address = f"{RUNS}/{run['id']}/steps/approve"
    assert codes(call("POST", f"{address}/approve", {"digest": "0"}, 409)) == ["approval.changed"]
    digest = found["steps"][2]["digest"]
    found = call("POST", f"{address}/approve", {"digest": digest, "note": "looks good"})
    (said,) = found["steps"][2]["approvals"]
    assert (said["user"], said["approved"], said["note"], said["digest"]) == ("editor", True, "looks good", digest)
    services.advance(uuid.UUID(run["id"]))
    found = call("GET", f"{RUNS}/{run['id']}")
    assert (found["state"], found["progress"]) == ("succeeded", 1.0)


def test_events_in_order_and_in_pieces(call: Caller, run: dict[str, Any]) -> None:
    measured(run["id"], 1.5)
    address, after, seen = f"{RUNS}/{run['id']}/events", 0, []
    while after is not None:
        found = call("GET", f"{address}?after={after}&limit=2")
        seen += found["items"]
        after = found["next"]
    assert [(one["step"], one["to"]) for one in seen] == [
        ("", "running"),
        ("measure", "running"),
        ("measure", "succeeded"),
        ("gate", "running"),
        ("gate", "succeeded"),
        ("approve", "running"),
        ("approve", "approval"),
    ]
    assert call("GET", f"{address}?after={seen[-1]['id']}") == {"items": [], "next": None}


def test_a_rejection_fails_the_run_and_a_retry_asks_again(call: Caller, run: dict[str, Any]) -> None:
    measured(run["id"], 1.5)
    address = f"{RUNS}/{run['id']}/steps/approve"
    digest = call("GET", f"{RUNS}/{run['id']}")["steps"][2]["digest"]
    call("POST", f"{address}/reject", {"digest": digest, "note": "not yet"})
    services.advance(uuid.UUID(run["id"]))
    assert call("GET", f"{RUNS}/{run['id']}")["state"] == "failed"
    assert call("POST", f"{address}/retry")["state"] == "running"
    services.advance(uuid.UUID(run["id"]))
    assert steps(call("GET", f"{RUNS}/{run['id']}"))["approve"] == "approval"
    assert codes(call("POST", f"{address}/retry", status=409)) == ["step.not_failed"]


def test_an_equal_run_takes_the_result(call: Caller, key: str, run: dict[str, Any]) -> None:
    measured(run["id"], 1.5)
    second = call("POST", f"{ROOT}/{key}/runs", {"inputs": run["inputs"]}, 201)
    services.advance(uuid.UUID(second["id"]))
    step = call("GET", f"{RUNS}/{second['id']}")["steps"][0]
    assert step["state"] == "succeeded" and step["digest"] == run["steps"][0]["digest"]
    assert step["reused"] == {"run_id": run["id"], "run_number": run["number"], "step": "measure"}
    assert Job.objects.count() == 1


def test_pause_resume_cancel(call: Caller, run: dict[str, Any]) -> None:
    assert call("POST", f"{RUNS}/{run['id']}/pause")["state"] == "paused"
    assert codes(call("POST", f"{RUNS}/{run['id']}/pause", status=409)) == ["state.moved_on"]
    assert call("POST", f"{RUNS}/{run['id']}/resume")["state"] == "running"
    assert call("POST", f"{RUNS}/{run['id']}/cancel")["cancel_requested_at"] is not None
    services.advance(uuid.UUID(run["id"]))
    found = call("GET", f"{RUNS}/{run['id']}")
    assert found["state"] == "cancelled" and set(steps(found).values()) == {"cancelled"}


def test_runs_by_pipeline_and_by_state(call: Caller, key: str, run: dict[str, Any]) -> None:
    other = call("POST", ROOT, {"definition": ALONE}, 201)["id"]
    ended = call("POST", f"{ROOT}/{other}/runs", {}, 201)["id"]
    services.advance(uuid.UUID(ended))
    listed = lambda query: [row["id"] for row in call("GET", f"{RUNS}?{query}")["items"]]
    assert listed("") == [ended, run["id"]]
    assert listed(f"pipeline_id={key}") == listed("state=running") == listed("state=running,paused") == [run["id"]]
    assert listed("state=succeeded") == [ended]
    assert codes(call("GET", f"{RUNS}?state=lost", status=422)) == ["state.unknown"]


@pytest.mark.parametrize("name", TEMPLATES.names)
def test_a_template_makes_a_pipeline_once(call: Caller, name: str) -> None:
    found = call("GET", f"/api/v1/pipeline-templates/{name}")
    assert yaml.safe_load(found["yaml"])["name"] == found["definition"]["name"]
    assert found["inputs"] == found["definition"]["inputs"]
    made = [call("POST", ROOT, {"template": name}, 201) for _ in range(2)]
    assert made[0]["id"] == made[1]["id"] and made[0]["definition"] == found["definition"]
    assert made[0]["template"] == name


def test_templates_are_listed(call: Caller) -> None:
    assert [row["name"] for row in call("GET", "/api/v1/pipeline-templates")] == TEMPLATES.names
    assert codes(call("GET", "/api/v1/pipeline-templates/none", status=404)) == ["template.unknown"]
    assert codes(call("POST", ROOT, {"template": "none"}, 404)) == ["template.unknown"]


def test_a_viewer_looks_and_judges_only(call: Caller, key: str, run: dict[str, Any]) -> None:
    viewer = Caller(Role.VIEWER)
    assert viewer("GET", f"{ROOT}/{key}")["id"] == key
    assert viewer("GET", f"{RUNS}/{run['id']}")["id"] == run["id"]
    assert viewer("POST", f"{ROOT}/validate", {"definition": ALONE})["ok"]
    for method, path, body in (
        ("POST", ROOT, {"definition": ALONE}),
        ("POST", ROOT, {"template": "chatbot"}),
        ("PATCH", f"{ROOT}/{key}", {"definition": ALONE}),
        ("DELETE", f"{ROOT}/{key}", None),
        ("POST", f"{ROOT}/{key}/runs", {}),
        ("POST", f"{RUNS}/{run['id']}/cancel", None),
        ("POST", f"{RUNS}/{run['id']}/steps/gate/retry", None),
        ("POST", f"{RUNS}/{run['id']}/steps/gate/approve", {"digest": "x"}),
    ):
        assert codes(viewer(method, path, body, 403)) == ["access.role"], path


@pytest.mark.parametrize("path", ["", "/events", "/steps/x/retry", "/steps/x/approve", "/cancel", "/pause", "/resume"])
def test_an_unknown_run_is_404(call: Caller, path: str) -> None:
    method, body = ("GET", None) if path in ("", "/events") else ("POST", {"digest": "x"})
    assert codes(call(method, f"{RUNS}/{NOBODY}{path}", body, 404)) == ["run.unknown"]


def test_an_unknown_step_is_404(call: Caller, run: dict[str, Any]) -> None:
    assert codes(call("POST", f"{RUNS}/{run['id']}/steps/none/retry", status=404)) == ["step.unknown"]


def test_a_kind_that_is_no_more_still_displays_and_starts_nothing(call: Caller, key: str, run: dict[str, Any]) -> None:
    pipeline = Pipeline.objects.get(pk=key)
    version = pipeline.newest
    body = json.loads(json.dumps(MEASURED).replace('"evaluate"', '"forgotten"'))
    pipeline.versions.filter(pk=version.pk).update(body=body)
    PipelineRun.objects.get(pk=run["id"]).steps.filter(name="measure").update(kind="forgotten")
    assert call("GET", f"{RUNS}/{run['id']}")["steps"][0]["kind"] == "forgotten"
    assert "forgotten" in call("GET", f"{ROOT}/{key}/yaml")
    assert codes(call("POST", f"{ROOT}/{key}/runs", {"inputs": make_inputs()}, 422)) == ["step.kind"]
