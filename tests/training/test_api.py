"""Jobs, data sets and the catalog over the API."""

from __future__ import annotations

import asyncio
import json
import uuid

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import AsyncClient, Client

from mlxplatform import api_auth
from mlxplatform.core.access import Role, make_user
from mlxplatform.core.models import ApiToken
from tests.training.runs import make_job
from training.hub import hub
from training.models import Checkpoint, Job, JobEvent, Metric, MetricPoint, Sample
from training.states import JobState

pytestmark = pytest.mark.django_db
ROOT = "/api/v1"


class Caller:
    """Calls the API with a token."""

    def __init__(self, role: str = Role.EDITOR, scope: str = "write") -> None:
        self.user = make_user(f"{role}-{scope}", Role(role))
        self.token, secret = ApiToken.issue(self.user, "test", scope)
        self.headers = {"Authorization": f"Bearer {secret}"}
        self.client = Client(HTTP_HOST="localhost")

    def __call__(self, method: str, path: str, body: object = None, **headers: str):
        data = {} if body is None else {"data": json.dumps(body), "content_type": "application/json"}
        return self.client.generic(method, ROOT + path, headers={**self.headers, **headers}, **data)


@pytest.fixture
def call() -> Caller:
    api_auth.failures.clear()
    return Caller()


def code(response) -> str:
    return response.json()["errors"][0]["code"]


def request_body() -> dict[str, object]:
    job = make_job()
    Job.objects.filter(pk=job.pk).update(deleted_at="2026-01-01T00:00:00Z")
    return {"model_version_id": str(job.model_version_id), "dataset_version_id": str(job.dataset_version_id)}


def test_create_get_list_change_delete_restore(call) -> None:
    made = call("POST", "/jobs", {**request_body(), "settings": {"iters": 5}})
    assert made.status_code == 201
    path = f"/jobs/{made.json()['id']}"
    assert call("GET", path).json()["settings"]["iters"] == 5
    assert call("PATCH", path, {"name": "n", "notes": "x"}).json()["notes"] == "x"
    assert [row["name"] for row in call("GET", "/jobs?state=queued").json()["items"]] == ["n"]
    assert call("DELETE", path).json()["deleted_at"]
    assert call("GET", "/jobs").json()["items"] == []
    assert call("POST", f"{path}/restore").json()["deleted_at"] is None


def test_times_are_utc_with_z(call) -> None:
    assert call("GET", f"/jobs/{make_job().pk}").json()["created_at"].endswith("Z")


def test_stop_and_resume(call) -> None:
    path = f"/jobs/{make_job().pk}"
    assert call("POST", f"{path}/stop").json()["state"] == "stopped"
    assert call("POST", f"{path}/resume").json()["state"] == "queued"


def test_pause_and_kill_ask_a_running_job(call) -> None:
    job = make_job(state=JobState.RUNNING)
    assert call("POST", f"/jobs/{job.pk}/pause").json()["pause_requested_at"]
    assert call("POST", f"/jobs/{job.pk}/kill").json()["kill_requested_at"]


def test_a_conflict_is_409(call) -> None:
    response = call("POST", f"/jobs/{make_job(state=JobState.SUCCEEDED).pk}/resume")
    assert (response.status_code, code(response)) == (409, "job.succeeded")


def test_the_same_key_gives_the_same_job(call) -> None:
    body = request_body()
    first = call("POST", "/jobs", body, **{"Idempotency-Key": "k"}).json()
    assert call("POST", "/train/sft", body, **{"Idempotency-Key": "k"}).json()["id"] == first["id"]


def test_all_problems_of_a_config_come_at_once(call) -> None:
    response = call("POST", "/jobs", {**request_body(), "settings": {"learning_rate": -1, "optimizer": "foo"}})
    assert response.status_code == 422
    assert {e["code"] for e in response.json()["errors"]} == {"config.greater_than", "optimizer.unknown"}
    assert all(e["message"] and e["hint"] for e in response.json()["errors"])


def test_an_unknown_field_of_a_body_is_named(call) -> None:
    response = call("PATCH", f"/jobs/{make_job().pk}", {"color": "red"})
    assert response.json()["errors"][0]["loc"] == ["color"]


def test_lists_go_on_at_the_cursor(call) -> None:
    numbers = [make_job().number for _ in range(5)]
    first = call("GET", "/jobs?limit=3").json()
    second = call("GET", f"/jobs?limit=3&cursor={first['next']}").json()
    assert [row["number"] for row in first["items"] + second["items"]] == numbers[::-1]
    assert second["next"] is None


@pytest.mark.parametrize("query", ["cursor=zzz", "cursor=W10", "cursor=WyJhIiwiYiJd", "limit=0", "state=x", "kind=y"])
def test_bad_queries_are_422(call, query) -> None:
    assert call("GET", f"/jobs?{query}").status_code == 422


def test_metrics_keep_least_and_greatest(call) -> None:
    metric = Metric.objects.create(job=make_job(), name="train_loss", last_step=3)
    MetricPoint.objects.bulk_create(MetricPoint(metric=metric, step=s, value=9.0 - s, t=0.0) for s in (1, 2, 3))
    body = call("GET", f"/jobs/{metric.job_id}/metrics?names=train_loss").json()
    assert body["series"]["train_loss"]["step"] == [1, 2, 3]
    assert body["series"]["train_loss"]["max"] == [8.0, 7.0, 6.0]


def test_events_come_in_order_after_a_seq(call) -> None:
    job = make_job()
    JobEvent.objects.append(job.pk, [("log", {"message": str(n)}) for n in range(5)])
    body = call("GET", f"/jobs/{job.pk}/events?after=1&limit=3").json()
    assert [(e["seq"], e["message"]) for e in body["items"]] == [(2, "1"), (3, "2"), (4, "3")]
    assert body["next"] == 4


def test_log_by_byte_offset_without_escapes(call) -> None:
    job = make_job()
    attempt = job.attempts.create(n=1, fence=1)
    attempt.folder.prepare(1)
    attempt.folder.stdout.write_bytes(b"one\r\x1b[31mtwo\x1b[0m\n\xff<b>")
    response = call("GET", f"/jobs/{job.pk}/log")
    assert response.content.decode() == "one\ntwo\n�<b>"
    assert response["Content-Type"].startswith("text/plain")
    assert response["X-Next-Offset"] == response["X-Size"]
    assert call("GET", f"/jobs/{job.pk}/log?offset=-3").content.decode() == "<b>"


def test_samples_and_checkpoints(call) -> None:
    job = make_job()
    Sample.objects.create(job=job, step=0, index=0, prompt="p", text="t")
    Checkpoint.objects.create(job=job, attempt=1, step=5, path="checkpoints/5", sha256="0" * 64)
    assert call("GET", f"/jobs/{job.pk}/samples").json()["items"][0]["text"] == "t"
    assert call("GET", f"/jobs/{job.pk}/checkpoints").json()["items"][0]["step"] == 5


def test_upload_validate_import(call) -> None:
    rows = "".join(json.dumps({"prompt": f"q{n}", "completion": "a"}) + "\n" for n in range(60))
    file = SimpleUploadedFile("rows.jsonl", (rows + "{broken\n").encode())
    post = lambda path, **data: call.client.post(ROOT + path, data, headers=call.headers)
    upload = post("/datasets/upload", file=file).json()
    report = call("POST", "/datasets/validate", {"upload": upload["id"]}).json()
    assert (report["rows"], report["bad"], report["problems"][0]["line"]) == (61, 1, 61)
    made = call("POST", "/datasets/import", {"source": {"kind": "file", "upload": upload["id"]}, "name": "mine"})
    assert (made.status_code, made.json()["kind"]) == (201, "import_dataset")


def test_validate_takes_the_file_itself(call) -> None:
    file = SimpleUploadedFile("rows.jsonl", b'{"text": "hello"}\n')
    report = call.client.post(f"{ROOT}/datasets/validate", {"file": file}, headers=call.headers).json()
    assert report["data_format"] == "text"
    assert uuid.UUID(report["upload"])


def test_a_file_that_cannot_be_read_is_reported(call) -> None:
    file = SimpleUploadedFile("rows.parquet", b"PAR1 no parquet")
    report = call.client.post(f"{ROOT}/datasets/validate", {"file": file}, headers=call.headers).json()
    assert report["ok"] is False
    assert report["problems"]


def test_model_import_is_a_job(call) -> None:
    made = call("POST", "/models/import", {"source": {"kind": "hub", "repo_id": "a/b"}})
    assert (made.status_code, made.json()["settings"]["source"]["repo_id"]) == (201, "a/b")


def test_the_catalog_has_schemas(call) -> None:
    body = call("GET", "/catalog").json()
    assert "rank" in next(row for row in body["adapters"] if row["name"] == "lora")["settings"]["properties"]
    assert {"methods", "optimizers", "schedules", "formats", "kinds"} <= body.keys()


# -- the event stream ----------------------------------------------------------------------------


async def read_stream(job: Job, headers: dict[str, str], **more: str) -> list[tuple[str, str]]:
    """(id, event) of the whole stream, until it ends by itself."""
    response = await AsyncClient().get(f"{ROOT}/jobs/{job.pk}/events/stream", headers={**headers, **more})
    assert response.status_code == 200
    text = "".join([piece.decode() async for piece in response.streaming_content])
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields.get("id", ""), fields["event"]))
    return found


@pytest.mark.django_db(transaction=True)
def test_the_stream_is_exact_and_ends(call) -> None:
    job = make_job(state=JobState.RUNNING)
    JobEvent.objects.append(job.pk, [("log", {}) for _ in range(3)])

    async def scene() -> list[tuple[str, str]]:
        reading = asyncio.create_task(read_stream(job, call.headers, **{"Last-Event-ID": "1"}))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(_finish, job)
        return await asyncio.wait_for(reading, 20)

    seen = asyncio.run(scene())
    hub.stop()
    assert seen == [("2", "log"), ("3", "log"), ("4", "log"), ("5", "state"), ("", "end")]


def _finish(job: Job) -> None:
    from django.db import connection

    JobEvent.objects.append(job.pk, [("log", {})])
    Job.objects.filter(pk=job.pk).update(state=JobState.SUCCEEDED)
    JobEvent.objects.append(job.pk, [("state", {"state": "succeeded"})])
    connection.close()


@pytest.mark.django_db(transaction=True)
def test_the_stream_of_no_job_is_404(call) -> None:
    async def scene() -> int:
        path = f"{ROOT}/jobs/{uuid.uuid4()}/events/stream"
        return (await AsyncClient().get(path, headers=call.headers)).status_code

    assert asyncio.run(scene()) == 404


# -- refusals ------------------------------------------------------------------------------------


def test_a_stranger_gets_401_in_our_shape(call) -> None:
    response = Client(HTTP_HOST="localhost").get(f"{ROOT}/jobs")
    assert (response.status_code, code(response)) == (401, "access.sign_in")


def test_a_read_token_may_not_write() -> None:
    response = Caller(scope="read")("POST", "/jobs", request_body())
    assert (response.status_code, code(response)) == (403, "token.scope")


def test_a_viewers_write_token_does_not_help() -> None:
    response = Caller(role=Role.VIEWER)("POST", f"/jobs/{make_job().pk}/stop")
    assert (response.status_code, code(response)) == (403, "access.role")


def test_a_revoked_token_is_dead(call) -> None:
    ApiToken.objects.update(revoked_at="2026-01-01T00:00:00Z")
    assert call("GET", "/jobs").status_code == 401


def test_wrong_tokens_are_throttled(call) -> None:
    client = Client(HTTP_HOST="localhost")
    statuses = {client.get(f"{ROOT}/jobs", headers={"Authorization": "Bearer x"}).status_code for _ in range(31)}
    api_auth.failures.clear()
    assert statuses == {401, 429}


def test_a_session_needs_its_csrf_token(call) -> None:
    client = Client(HTTP_HOST="localhost", enforce_csrf_checks=True)
    client.force_login(call.user)
    path = f"{ROOT}/jobs/{make_job().pk}/stop"
    assert client.get(f"{ROOT}/jobs").status_code == 200
    assert code(client.post(path)) == "access.csrf"
    client.cookies["mlxp_csrf"] = "x" * 32
    assert client.post(path, headers={"X-CSRFToken": "x" * 32}).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_json_must_say_that_it_is_json(call, kind) -> None:
    response = call.client.generic("POST", f"{ROOT}/jobs", "{}", content_type=kind, headers=call.headers)
    assert (response.status_code, code(response)) == (415, "body.content_type")


@pytest.mark.parametrize("body", ["{", "[" * 100_000, '{"priority": NaN}', "\xff", '{"name": "\\ud800"}'])
def test_broken_json_is_400(call, body) -> None:
    response = call.client.generic(
        "POST", f"{ROOT}/jobs", body.encode("latin-1"), content_type="application/json", headers=call.headers
    )
    assert (response.status_code, code(response)) == (400, "body.not_json")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("PUT", "/jobs", 405), ("GET", "/nothing", 404), ("GET", "/jobs/142", 404), ("GET", "/jobs/..%2f..", 404)],
)
def test_djangos_own_refusals_have_our_shape(call, method, path, status) -> None:
    response = call(method, path)
    assert response.status_code == status
    assert {"loc", "code", "message", "hint"} == response.json()["errors"][0].keys()


def test_another_host_is_refused(call) -> None:
    response = Client(HTTP_HOST="evil.example").get(f"{ROOT}/jobs", headers=call.headers)
    assert (response.status_code, code(response)) == (400, "request.bad")


def test_last_use_is_kept_by_the_minute(call) -> None:
    call("GET", "/jobs")
    first = ApiToken.objects.get().last_used_at
    call("GET", "/jobs")
    assert first is not None
    assert ApiToken.objects.get().last_used_at == first
