"""URLs of data sets, and of the pages of models that need jobs: import, lineage, evaluations."""

from __future__ import annotations

from django.urls import path

from training.views import data, derive, evaluate, imports, tokens

urlpatterns = [
    path("datasets/", data.dataset_list, name="datasets"),
    path("datasets/new/", imports.new_dataset, name="dataset_new"),
    path("datasets/new/check/", imports.check_dataset, name="dataset_check"),
    path("datasets/new/check/report/", imports.check_report, name="dataset_check_report"),
    path("datasets/<uuid:dataset_id>/", data.rows_tab, name="dataset"),
    path("datasets/<uuid:dataset_id>/report/", data.report_tab, name="dataset_report"),
    path("datasets/<uuid:dataset_id>/tokens/", tokens.tokens_tab, name="dataset_tokens"),
    path("datasets/<uuid:dataset_id>/tokens/count/", tokens.statistics, name="dataset_statistics"),
    path("datasets/<uuid:dataset_id>/trained/", tokens.trained_tab, name="dataset_trained"),
    path("datasets/<uuid:dataset_id>/used/", data.used_tab, name="dataset_used"),
    path("datasets/<uuid:dataset_id>/rename/", data.rename, name="dataset_rename"),
    path("datasets/<uuid:dataset_id>/delete/", data.delete, name="dataset_delete"),
    path("datasets/<uuid:dataset_id>/restore/", data.restore, name="dataset_restore"),
    path("imports/<uuid:job_id>/", imports.live, name="import_job"),
    path("imports/<uuid:job_id>/cancel/", imports.cancel, name="import_cancel"),
    path("imports/<uuid:job_id>/again/", imports.again, name="import_again"),
    path("models/import/", imports.new_model, name="model_import"),
    path("models/versions/<uuid:version_id>/lineage/", imports.lineage, name="model_lineage"),
    path("models/versions/<uuid:version_id>/evaluations/", evaluate.of_version, name="model_evaluations"),
    path("jobs/evaluate/", evaluate.new, name="evaluation_new"),
    path("jobs/student/", derive.student, name="student_new"),
    path("jobs/generate/", derive.generated, name="generated_new"),
]
