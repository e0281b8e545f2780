"""The one API of the platform, ``/api/v1/``. Everything in it asks who is calling unless it says otherwise."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.urls import path
from ninja import NinjaAPI, Swagger

from mlxplatform import api_errors, roof_api
from mlxplatform.api_auth import Bearer, Session
from pipelines.api import pipelines, runs, templates
from registry.api import router as models_router
from training.api import router as jobs_router
from training.autoconfig_api import router as autoconfig_router
from training.catalog_api import router as catalog_router
from training.data_api import router as data_router
from training.evaluation_api import router as evaluations_router
from training.import_api import router as import_router
from training.optimizer_api import optimizers, presets, schedules
from training.train_api import router as train_router

api = NinjaAPI(
    title="MLX Platform",
    version="1",
    description="Fine-tune language models with MLX. Changes within v1 only add.",
    urls_namespace="api",
    auth=[Bearer(), Session()],
    docs_url=None,
    openapi_url=None,
    parser=api_errors.StrictParser(),
)
api_errors.install(api)
api.add_router("/jobs", jobs_router)
api.add_router("/train", train_router)
api.add_router("/models", models_router)
api.add_router("/models", import_router)
api.add_router("/datasets", data_router)
api.add_router("/evaluations", evaluations_router)
api.add_router("/catalog", catalog_router)
api.add_router("/auto-config", autoconfig_router)
api.add_router("/optimizers", optimizers)
api.add_router("/schedules", schedules)
api.add_router("/optimizer-presets", presets)
api.add_router("/pipelines", pipelines)
api.add_router("/pipeline-runs", runs)
api.add_router("/pipeline-templates", templates)
api.add_router("/tokens", roof_api.tokens)
api.add_router("/users", roof_api.users)
api.add_router("/system", roof_api.system)


@api.get("/openapi.json", include_in_schema=False, url_name="openapi-json")
def openapi(request: HttpRequest) -> Any:
    """The description of this API for programs."""
    return api.get_openapi_schema()


def docs(request: HttpRequest) -> HttpResponse:
    """The API's documentation to click through, from files of our own."""
    return Swagger({"persistAuthorization": False, "validatorUrl": None}).render_page(request, api)


@login_not_required
def nothing(request: HttpRequest, rest: str = "") -> HttpResponse:
    """Any other address below ``/api/``: nothing to find, signed in or not."""
    return api_errors.answer(404)


def _urls() -> list[Any]:
    """The API's addresses. They ask who is calling by themselves, so Django's redirect to the sign-in page is off."""
    patterns = api.urls[0]
    for pattern in patterns:
        view: Any = pattern.callback
        view.login_required = False
    return list(patterns)


urlpatterns: list[Any] = [
    path("v1/", (_urls(), "ninja", "api")),
    path("docs", docs, name="api_docs"),
    path("<path:rest>", nothing),
    path("", nothing),
]
