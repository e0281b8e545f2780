"""URLs of pipelines and their runs."""

from __future__ import annotations

from django.urls import path

from pipelines.views import edit, gallery, run

urlpatterns = [
    path("pipelines/", gallery.gallery, name="pipelines"),
    path("pipelines/new/", edit.new, name="pipeline_new"),
    path("pipelines/t/<str:name>/", gallery.template, name="pipeline_template"),
    path("pipelines/made/<uuid:version_id>/", run.made_by, name="pipeline_made"),
    path("pipelines/runs/<uuid:run_id>/", run.run, name="pipeline_run"),
    path("pipelines/runs/<uuid:run_id>/live/", run.live, name="pipeline_run_live"),
    path("pipelines/runs/<uuid:run_id>/do/<str:action>/", run.act, name="pipeline_run_act"),
    path("pipelines/runs/<uuid:run_id>/steps/<str:name>/decide/", run.decide, name="pipeline_decide"),
    path("pipelines/runs/<uuid:run_id>/steps/<str:name>/retry/", run.retry, name="pipeline_retry"),
    path("pipelines/<uuid:pipeline_id>/", gallery.pipeline, name="pipeline"),
    path("pipelines/<uuid:pipeline_id>/edit/", edit.edit, name="pipeline_edit"),
    path("pipelines/<uuid:pipeline_id>/yaml/", gallery.export, name="pipeline_export"),
    path("pipelines/<uuid:pipeline_id>/delete/", gallery.delete, name="pipeline_delete"),
]
