"""URLs of signing in, setup and settings."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.urls import path
from django.views.generic import RedirectView

from mlxplatform import accounts

# Django's admin has a sign-in page of its own that nothing throttles; it must not be reachable.
_to_login = login_not_required(RedirectView.as_view(pattern_name="login", query_string=True))

urlpatterns = [
    path("admin/login/", _to_login),
    path("login/", accounts.sign_in, name="login"),
    path("logout/", accounts.sign_out, name="logout"),
    path("setup/<str:secret>/", accounts.set_up, name="setup"),
    path("sign-in/<str:secret>/", accounts.one_time_sign_in, name="sign_in"),
    path("settings/", RedirectView.as_view(pattern_name="settings_profile"), name="settings"),
    path("settings/profile/", accounts.profile, name="settings_profile"),
    path("settings/theme/", accounts.theme, name="settings_theme"),
    path("settings/tokens/", accounts.tokens, name="settings_tokens"),
    path("settings/tokens/<uuid:token_id>/revoke/", accounts.revoke_token, name="settings_token_revoke"),
    path("settings/users/", accounts.users, name="settings_users"),
    path("settings/users/<int:user_id>/link/", accounts.user_link, name="settings_user_link"),
    path("settings/users/<int:user_id>/role/", accounts.user_role, name="settings_user_role"),
    path("settings/users/<int:user_id>/active/", accounts.user_active, name="settings_user_active"),
]
