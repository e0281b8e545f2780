"""The admin panel: for looking, and for the few columns that no rule depends on.

Whatever a service, the worker or the engine writes is read-only here, because an edit would go round
the events, fences and hashes that the rest relies on. People and roles are managed under Settings.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest

from mlxplatform.core.access import Role, allows
from mlxplatform.core.models import ApiToken, AuditEvent, OneTimeLink


class LookOnly(admin.ModelAdmin):
    """For admins to look at; nobody adds, deletes or changes anything but ``editable``."""

    editable: ClassVar[tuple[str, ...]] = ()
    list_per_page = 50
    show_full_result_count = False
    actions = None

    def has_module_permission(self, request: HttpRequest) -> bool:
        return allows(request.user, Role.ADMIN)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return allows(request.user, Role.ADMIN)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return bool(self.editable) and allows(request.user, Role.ADMIN)

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:  # noqa: ARG002
        return [field.name for field in self.opts.fields if field.name not in self.editable]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # noqa: ARG002
        """Write the editable columns only, so that a running worker's columns are not set back."""
        changed = [name for name in form.changed_data if name in self.editable]
        if changed:
            obj.save(update_fields=changed)
            AuditEvent.write(request.user, "admin.changed", f"{self.opts.model_name} {obj.pk}", columns=changed)


@admin.register(ApiToken)
class ApiTokenAdmin(LookOnly):
    list_display = ("name", "owner", "scope", "hint", "created_at", "expires_at", "last_used_at", "revoked_at")
    list_filter = ("scope", "owner")
    list_select_related = ("owner",)
    search_fields = ("name", "hint", "owner__username")
    exclude = ("digest",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [name for name in super().get_readonly_fields(request, obj) if name != "digest"]


@admin.register(OneTimeLink)
class OneTimeLinkAdmin(LookOnly):
    list_display = ("purpose", "user", "created_at", "expires_at", "used_at")
    list_filter = ("purpose",)
    list_select_related = ("user",)
    search_fields = ("user__username",)
    exclude = ("digest",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [name for name in super().get_readonly_fields(request, obj) if name != "digest"]


@admin.register(AuditEvent)
class AuditEventAdmin(LookOnly):
    list_display = ("at", "actor", "action", "target")
    list_filter = ("action",)
    search_fields = ("actor", "action", "target")


admin.site.site_header = admin.site.site_title = "MLX Platform"
admin.site.index_title = "Every table"
admin.site.unregister([User, Group])


@admin.register(User)
class PersonAdmin(LookOnly):
    editable = ("first_name", "last_name", "email")
    list_display = ("username", "is_active", "is_superuser", "last_login", "date_joined")
    list_filter = ("is_active", "groups")
    search_fields = ("username", "email")
    exclude = ("password", "user_permissions", "groups")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [name for name in super().get_readonly_fields(request, obj) if name != "password"]


@admin.register(Group)
class RoleAdmin(LookOnly):
    list_display = ("name",)
    search_fields = ("name",)
    exclude = ("permissions",)
