"""Every address of the platform, called by a stranger, a viewer and an editor: nothing is open by accident.

The walk takes its list from the URL tree, the socket routes and the OpenAPI description, so a new route
is walked without being added here; one that shall be public must be named in ``PUBLIC``.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from mlxplatform.api import api
from mlxplatform.asgi import websocket_urlpatterns
from mlxplatform.core.access import Role, make_user
from mlxplatform.core.models import ApiToken, AuditEvent, OneTimeLink
from pipelines.models import Approval, Pipeline, PipelineRun, PipelineVersion, RunEvent, StepRun
from registry.models import Alias, ModelVersion, RegisteredModel
from tests.training.runs import make_job
from training.consumers import JobConsumer
from training.models import Dataset, DatasetVersion, Job, JobEvent, OptimizerPreset

pytestmark = pytest.mark.django_db
#: Names of the pages that strangers may see.
PUBLIC = {"healthz", "login", "setup", "sign_in", None}
#: What a viewer may post: their own session, profile and tokens.
OWN = re.compile(
    r"^/(login|logout|settings|sign-in|setup|admin/login|admin/logout|admin/password_change|api/v1/tokens)\b"
)
VALUES = {"uuid": str(uuid.UUID(int=7)), "int": "1", "str": "x", "path": "x", "slug": "x"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def routes(resolver: URLResolver | None = None, prefix: str = "") -> Iterator[tuple[str, str | None]]:
    """(path with its parameters filled in, name) of every address."""
    for pattern in (resolver or get_resolver()).url_patterns:
        text = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern, text)
        elif isinstance(pattern, URLPattern):
            filled = re.sub(r"<(?:(\w+):)?\w+>", lambda m: VALUES.get(m[1] or "str", VALUES["uuid"]), text)
            filled = re.sub(r"\(\?P<\w+>[^)]*\)", "x", filled)
            yield "/" + filled.strip("^$").replace("\\Z", "").replace("$", ""), pattern.name


ALL = sorted(set(routes()), key=str)
OPERATIONS = [
    (method.upper(), re.sub(r"\{\w+\}", VALUES["uuid"], path))
    for path, methods in api.get_openapi_schema()["paths"].items()
    for method in methods
]


def counts() -> tuple[int, ...]:
    """Rows of all tables that people's requests may change."""
    tables = (Job, JobEvent, Dataset, DatasetVersion, RegisteredModel, ModelVersion, Alias, User, ApiToken,
              AuditEvent, OneTimeLink, OptimizerPreset, Pipeline, PipelineVersion, PipelineRun, StepRun, RunEvent,
              Approval)  # fmt: skip
    return tuple(table.objects.count() for table in tables)


def make_run(key: uuid.UUID) -> PipelineRun:
    """A pipeline and a run of it that waits for a person; all have the id ``key``."""
    body = {"schema": 1, "name": "p", "steps": [{"name": "x", "kind": "approve"}]}
    version = PipelineVersion.objects.create(pipeline=Pipeline.objects.create(pk=key, name="p"), n=1, body=body)
    run = PipelineRun.objects.create(pk=key, number=1, version=version)
    StepRun.objects.create(run=run, place=0, name="x", kind="approve", state="approval")
    return run


def client(role: Role | None = None) -> Client:
    made = Client(HTTP_HOST="localhost", raise_request_exception=False)
    if role:
        made.force_login(make_user(role, role))
    return made


def test_the_walk_sees_the_tree() -> None:
    paths = {path for path, _ in ALL}
    assert {"/api/v1/jobs", "/jobs/", "/models/", "/admin/", "/login/"} <= paths
    assert len(ALL) > 60
    assert len(OPERATIONS) > 25


def test_strangers_see_only_what_is_public() -> None:
    visitor = client()
    open_to_all = []
    for path, name in ALL:
        for method in METHODS:
            status = visitor.generic(method, path).status_code
            refused = status in {301, 302, 401, 403, 404, 405}
            if not refused and name not in PUBLIC:
                open_to_all.append((method, path, status))
    assert open_to_all == []


def test_the_unnamed_public_routes_are_only_the_ends_of_the_api() -> None:
    visitor = client()
    unnamed = [path for path, name in ALL if name is None and visitor.get(path).status_code == 200]
    assert unnamed == []


def test_strangers_are_sent_to_the_sign_in_page_or_get_401() -> None:
    visitor = client()
    for path, _ in ALL:
        response = visitor.get(path)
        if response.status_code == 302:
            assert response["Location"].startswith(("/login/", "/admin/login/")), path


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_operation_of_the_api_asks_who_is_calling(method, path) -> None:
    response = client().generic(method, path)
    assert (response.status_code, response.json()["errors"][0]["code"]) == (401, "access.sign_in")


def test_looking_changes_nothing() -> None:
    viewer, job = client(Role.VIEWER), make_job()
    make_run(job.pk)
    before = counts()
    for path, _ in ALL:
        if not path.startswith(("/logout", "/admin/logout")):
            for method in ("GET", "HEAD", "OPTIONS"):
                viewer.generic(method, path.replace(VALUES["uuid"], str(job.pk)))
    assert counts() == before


def test_a_viewer_changes_nothing_but_their_own() -> None:
    viewer, job = client(Role.VIEWER), make_job()
    run = make_run(job.pk)
    for path, _ in ALL:
        if OWN.match(path):
            continue
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            before = counts()
            target = path.replace(VALUES["uuid"], str(job.pk))
            status = viewer.generic(method, target, "{}", content_type="application/json").status_code
            assert status < 500, (method, target, status)
            assert counts() == before, (method, target)
    job.refresh_from_db()
    assert (job.state, job.deleted_at, job.stop_requested_at) == ("queued", None, None)
    run.refresh_from_db()
    assert (run.state, run.cancel_requested_at, run.version.pipeline.deleted_at) == ("running", None, None)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.EDITOR])
def test_only_admins_see_the_admin_and_the_people(role) -> None:
    visitor = client(role)
    for path, _ in ALL:
        if path.startswith("/admin/") and "login" not in path and "logout" not in path and "jsi18n" not in path:
            assert visitor.get(path).status_code in {301, 302, 403, 404}, path
    assert visitor.get("/settings/users/").status_code == 403
    assert visitor.get("/api/v1/users").status_code == 403


def test_an_account_without_a_role_sees_no_rows() -> None:
    make_run(make_job(name="a secret name").pk)
    nobody = Client(HTTP_HOST="localhost")
    nobody.force_login(User.objects.create_user("nobody"))
    for path in ("jobs", "pipelines", "pipeline-runs"):
        assert nobody.get(f"/api/v1/{path}").status_code == 403
    assert b"a secret name" not in nobody.get("/jobs/").content


def test_all_socket_routes_are_ours() -> None:
    assert [str(route.pattern) for route in websocket_urlpatterns] == ["ws/live/"]
    assert websocket_urlpatterns[0].callback.consumer_class is JobConsumer


def test_sign_in_is_asked_for_by_default() -> None:
    assert "django.contrib.auth.middleware.LoginRequiredMiddleware" in settings.MIDDLEWARE
    assert api.auth
