"""URLs of jobs and data sets."""

from __future__ import annotations

from django.urls import include, path

from training.views import autoconfig, demo, job, jobs, memory, new_job, optimizers, series

urlpatterns = [
    path("demo/", demo.demo_page, name="demo"),
    path("jobs/", jobs.job_list, name="jobs"),
    path("jobs/selected/", jobs.bulk, name="jobs_bulk"),
    path("jobs/new/", new_job.new_job, name="job_new"),
    path("jobs/new/plan/", new_job.plan_card, name="job_plan"),
    path("jobs/new/autoconfig/", autoconfig.autoconfig_card, name="job_autoconfig"),
    path("jobs/new/memory/", memory.memory_card, name="job_memory"),
    path("optimizers/", optimizers.optimizers, name="optimizers"),
    path("optimizers/preview/", optimizers.preview, name="optimizer_preview"),
    path("optimizers/presets/", optimizers.save, name="preset_save"),
    path("optimizers/presets/<uuid:preset_id>/delete/", optimizers.delete, name="preset_delete"),
    path("jobs/new/preset/", new_job.preset, name="job_preset"),
    path("jobs/new/method/", new_job.method, name="job_method"),
    path("jobs/new/block/<str:path>/", new_job.block, name="job_block"),
    path("jobs/<int:number>/", jobs.by_number, name="job_by_number"),
    path("jobs/<uuid:job_id>/", job.job, name="job"),
    path("jobs/<uuid:job_id>/head/", job.head, name="job_head"),
    path("jobs/<uuid:job_id>/series.json", series.series, name="job_series"),
    path("jobs/<uuid:job_id>/log/", series.log, name="job_log"),
    path("jobs/<uuid:job_id>/rename/", job.rename, name="job_rename"),
    path("jobs/<uuid:job_id>/delete/", job.delete, name="job_delete"),
    path("jobs/<uuid:job_id>/do/<str:action>/", job.act, name="job_act"),
    path("jobs/<uuid:job_id>/<str:tab>/", job.job, name="job_tab"),
    path("", include("training.urls_data")),
]
