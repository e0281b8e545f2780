"""URLs of the models pages."""

from __future__ import annotations

from django.urls import path

from registry import views

urlpatterns = [
    path("models/", views.model_list, name="models"),
    path("models/<uuid:model_id>/", views.model_page, name="model"),
    path("models/<uuid:model_id>/edit/", views.edit, name="model_edit"),
    path("models/<uuid:model_id>/delete/", views.delete, name="model_delete"),
    path("models/<uuid:model_id>/restore/", views.restore, name="model_restore"),
    path("models/<uuid:model_id>/aliases/", views.alias_set, name="alias_set"),
    path("models/<uuid:model_id>/aliases/<str:name>/delete/", views.alias_remove, name="alias_remove"),
    path("models/<uuid:model_id>/aliases/<str:name>/back/", views.alias_back, name="alias_back"),
    path("models/versions/<uuid:version_id>/", views.version_page, name="model_version"),
    path("models/versions/<uuid:version_id>/files/<int:index>/", views.download, name="model_file"),
]
