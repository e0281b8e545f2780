"""Signing in, the first administrator, and the settings pages."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import authenticate, login, logout, update_session_auth_hash
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render, resolve_url
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from mlxplatform import services
from mlxplatform.core.access import Role, allows, require, role_of
from mlxplatform.core.errors import Forbidden, NotFound, TooMuch
from mlxplatform.core.models import ApiToken, AuditEvent, OneTimeLink
from mlxplatform.forms import ROLES, AddUserForm, PasswordForm, RoleForm, SetupForm, TokenForm

form_page = require_http_methods(["GET", "HEAD", "POST"])
BACKEND = settings.AUTHENTICATION_BACKENDS[0]


def safe_next(request: HttpRequest, default: str = "home") -> str:
    """Where the visitor meant to go, if that is a page of ours; else the page named ``default``."""
    target = request.POST.get("next") or request.GET.get("next") or ""
    own = url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure())
    return target if own else resolve_url(default)


@login_not_required
@never_cache
@sensitive_post_parameters("password")
@form_page
def sign_in(request: HttpRequest) -> HttpResponse:
    """Name and password; the answer to a wrong one does not say which of the two it was."""
    if request.user.is_authenticated and role_of(request.user):
        return HttpResponseRedirect(safe_next(request))
    error, status = "", 200
    username = request.POST.get("username", "")[:150]
    if request.method == "POST":
        address = request.META.get("REMOTE_ADDR", "")
        try:
            services.check_throttle(username, address)
        except TooMuch as refusal:
            error, status = str(refusal), refusal.status
        else:
            user = authenticate(request, username=username, password=request.POST.get("password", "")[:256])
            if user is not None:
                login(request, user)
                return HttpResponseRedirect(safe_next(request))
            services.note_failed_sign_in(username, address)
            error, status = "Name and password do not fit together.", 422
    context = {"error": error, "username": username, "next": safe_next(request), "fresh": not User.objects.exists()}
    return render(request, "registration/login.html", context, status=status)


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """End the session."""
    logout(request)
    return redirect("login")


@login_not_required
@never_cache
@sensitive_post_parameters("password")
@form_page
def set_up(request: HttpRequest, secret: str) -> HttpResponse:
    """The first administrator chooses name and password."""
    if User.objects.exists():
        raise NotFound("setup.done", "This dashboard has its administrator already.", "Sign in instead.")
    services.pending_link(OneTimeLink.Purpose.SETUP, secret)
    form = SetupForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        user = services.set_up(secret, form.cleaned_data["username"], form.cleaned_data["password"])
        login(request, user, backend=BACKEND)
        return redirect("home")
    return render(request, "registration/setup.html", {"form": form}, status=422 if form.errors else 200)


@login_not_required
@never_cache
@form_page
def one_time_sign_in(request: HttpRequest, secret: str) -> HttpResponse:
    """A page with one button: a mail program that looks at the link must not use it up."""
    if request.method == "POST":
        login(request, services.redeem_sign_in(secret), backend=BACKEND)
        return redirect("home")
    link = services.pending_link(OneTimeLink.Purpose.SIGN_IN, secret)
    return render(request, "registration/sign_in.html", {"link": link})


@never_cache
@sensitive_post_parameters("current", "password")
@form_page
def profile(request: HttpRequest) -> HttpResponse:
    """Who I am here, the theme, my password."""
    user = _me(request)
    form = PasswordForm(user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            user.set_password(form.cleaned_data["password"])
            user.save(update_fields=["password"])
            AuditEvent.write(user, "user.password", f"user:{user.pk}")
        update_session_auth_hash(request, user)  # the other sessions end, this one goes on
        return redirect(reverse("settings_profile") + "?saved=password")
    role = role_of(user)
    words = next((summary for name, _, summary in ROLES if name == role), "")
    saved = request.GET.get("saved", "")
    context = {"form": form, "role": role, "role_words": words, "saved": saved, **_sections(request)}
    return render(request, "accounts/profile.html", context, status=422 if form.errors else 200)


@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    """Keep the theme in a cookie, which the server reads for the next page."""
    wanted = request.POST.get("theme", "")
    response = HttpResponseRedirect(safe_next(request, "settings_profile"))
    if wanted in {"auto", "light", "dark"}:
        response.set_cookie("theme", wanted, max_age=365 * 86400, samesite="Lax", secure=request.is_secure())
    return response


@never_cache
@form_page
def tokens(request: HttpRequest) -> HttpResponse:
    """My API tokens; a new one's secret is shown in the answer to the POST and never again."""
    may_write = allows(request.user, Role.EDITOR)
    form = TokenForm(request.POST or None, may_write=may_write)
    secret = ""
    if request.method == "POST" and form.is_valid():
        require(request.user, Role.VIEWER)
        wish = form.cleaned_data
        _, secret = services.issue_token(request.user, wish["name"], wish["scope"], wish["days"])
        form = TokenForm(may_write=may_write)
    own = ApiToken.objects.filter(owner=_me(request)).order_by("revoked_at", "-created_at")
    context = {"form": form, "tokens": own, "secret": secret, "may_write": may_write, **_sections(request)}
    return render(request, "accounts/tokens.html", context, status=422 if form.errors else 200)


@require_POST
def revoke_token(request: HttpRequest, token_id: str) -> HttpResponse:
    """End one of my tokens."""
    services.revoke_token(request.user, token_id)
    return redirect("settings_tokens")


@never_cache
@sensitive_post_parameters("password")
@form_page
def users(request: HttpRequest) -> HttpResponse:
    """Everybody, and a form to add somebody. A new one-time link is shown in the answer and never again."""
    require(request.user, Role.ADMIN)
    form = AddUserForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        wish = form.cleaned_data
        user, secret = services.add_user(request.user, wish["username"], Role(wish["role"]), wish["password"])
        return _users(request, AddUserForm(), added=user, secret=secret)
    return _users(request, form)


@require_POST
@never_cache
def user_link(request: HttpRequest, user_id: int) -> HttpResponse:
    """A new one-time link for somebody."""
    require(request.user, Role.ADMIN)
    user = _user(user_id)
    return _users(request, AddUserForm(), added=user, secret=services.sign_in_link(request.user, user))


@require_POST
def user_role(request: HttpRequest, user_id: int) -> HttpResponse:
    """Another role for somebody."""
    require(request.user, Role.ADMIN)
    form = RoleForm(request.POST)
    if not form.is_valid():
        raise NotFound("users.role", "There is no such role.", "Choose viewer, editor or admin.")
    services.change_role(request.user, _user(user_id), Role(form.cleaned_data["role"]))
    return redirect("settings_users")


@require_POST
def user_active(request: HttpRequest, user_id: int) -> HttpResponse:
    """Let somebody in, or keep them out."""
    require(request.user, Role.ADMIN)
    user, active = _user(user_id), request.POST.get("active") == "1"
    if user.pk == request.user.pk and not active:
        raise Forbidden("users.self", "You cannot deactivate yourself.", "Ask another admin.")
    services.set_active(request.user, user, active)
    return redirect("settings_users")


def _sections(request: HttpRequest) -> dict[str, Any]:
    return {"is_admin": allows(request.user, Role.ADMIN)}


def _me(request: HttpRequest) -> User:
    """The person who is signed in, as a row."""
    assert isinstance(request.user, User)  # every page asks for a sign-in
    return request.user


def _user(user_id: int) -> User:
    user = User.objects.filter(pk=user_id).first()
    if user is None:
        raise NotFound("users.unknown", "There is no such person.", "Reload the list.")
    return user


def _users(request: HttpRequest, form: AddUserForm, *, added: Any = None, secret: str = "") -> HttpResponse:
    people = User.objects.order_by("-is_active", "username").prefetch_related("groups")
    link = request.build_absolute_uri(reverse("sign_in", args=[secret])) if secret else ""
    context = {
        "form": form,
        "roles": ROLES,
        "added": added,
        "link": link,
        "people": [{"user": person, "role": _role_name(person)} for person in people],
        **_sections(request),
    }
    return render(request, "accounts/users.html", context, status=422 if form.errors else 200)


def _role_name(person: User) -> str:
    """The role that is stored, of deactivated people too."""
    names = {group.name for group in person.groups.all()}
    if person.is_superuser:
        return Role.ADMIN
    return next((role for role in (Role.ADMIN, Role.EDITOR, Role.VIEWER) if role in names), "")
