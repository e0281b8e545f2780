"""The URL tree: the roof's pages, the API, and each room's own pages."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from mlxplatform import api, pages
from mlxplatform.health import healthz

urlpatterns = [
    path("", pages.home, name="home"),
    path("slot/", pages.slot_strip, name="slot_strip"),
    path("healthz", healthz, name="healthz"),
    path("api/", include(api.urlpatterns)),
    path("", include("mlxplatform.site_urls")),
    path("", include("registry.urls")),
    path("", include("training.urls")),
    path("", include("pipelines.urls")),
    path("admin/", admin.site.urls),
]
