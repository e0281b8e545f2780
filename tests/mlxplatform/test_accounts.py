"""Signing in, the first administrator, one-time links, tokens and people."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.template.loader import render_to_string
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from mlxplatform import services
from mlxplatform.core.access import Role, make_user, role_of
from mlxplatform.core.errors import Conflict
from mlxplatform.core.models import ApiToken, AuditEvent, OneTimeLink

pytestmark = pytest.mark.django_db
PASSWORD = "quite-long-and-odd-7"


@pytest.fixture(autouse=True)
def quick_hashes(settings) -> None:
    """The real hash takes a third of a second on purpose."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def admin() -> User:
    return make_user("ada", Role.ADMIN, PASSWORD, superuser=True)


@pytest.fixture
def signed_in(admin: User) -> Client:
    client = Client()
    client.force_login(admin)
    return client


def sign_in(client: Client, password: str = PASSWORD, **more: str):
    return client.post("/login/", {"username": "ada", "password": password, **more})


def test_sign_in_leads_to_the_page_that_was_asked_for(client: Client, admin: User) -> None:
    assert sign_in(client, next="/models/")["Location"] == "/models/"
    assert client.session["_auth_user_id"] == str(admin.pk)


@pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example", "javascript:alert(1)", "/\\evil"])
def test_sign_in_never_leads_elsewhere(client: Client, admin: User, elsewhere: str) -> None:
    assert sign_in(client, next=elsewhere)["Location"] == "/"


def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(client: Client, admin: User) -> None:
    wrong = sign_in(client, "nope")
    unknown = client.post("/login/", {"username": "nobody", "password": "nope"})
    assert wrong.status_code == unknown.status_code == 422
    assert wrong.context["error"] == unknown.context["error"] == "Name and password do not fit together."


def test_the_sixth_try_is_refused_even_with_the_right_password(client: Client, admin: User) -> None:
    for _ in range(services.PAIR_LIMIT):
        assert sign_in(client, "nope").status_code == 422
    answer = sign_in(client)
    assert answer.status_code == 429
    assert "signin_link" in answer.context["error"]
    assert "_auth_user_id" not in client.session


def test_the_throttle_ends_and_counts_names_without_case(client: Client, admin: User) -> None:
    for _ in range(services.PAIR_LIMIT):
        client.post("/login/", {"username": "ADA", "password": "nope"})
    assert sign_in(client).status_code == 429
    AuditEvent.objects.update(at=timezone.now() - services.WINDOW - timedelta(seconds=1))
    assert sign_in(client).status_code == 302


def test_another_address_is_not_locked_out(client: Client, admin: User) -> None:
    for _ in range(services.PAIR_LIMIT):
        sign_in(client, "nope")
    assert client.post("/login/", {"username": "ada", "password": PASSWORD}, REMOTE_ADDR="192.0.2.7").status_code == 302


def test_sign_out_takes_a_post(signed_in: Client) -> None:
    assert signed_in.get("/logout/").status_code == 405
    assert signed_in.post("/logout/").status_code == 302
    assert signed_in.get("/settings/profile/").status_code == 302


def test_forms_are_refused_without_their_token(admin: User) -> None:
    strict = Client(enforce_csrf_checks=True)
    answer = strict.post("/login/", {"username": "ada", "password": PASSWORD})
    assert answer.status_code == 403
    assert b"csrf.failed" in answer.content


def test_django_admins_own_sign_in_is_shut(client: Client, admin: User) -> None:
    answer = client.post("/admin/login/?next=/admin/", {"username": "ada", "password": PASSWORD})
    assert answer["Location"] == "/login/?next=/admin/"
    assert "_auth_user_id" not in client.session


def test_setup_makes_the_first_admin_once(client: Client) -> None:
    url = reverse("setup", args=[OneTimeLink.issue("setup")])
    assert client.get(url).status_code == client.get(url).status_code == 200
    assert client.post(url, {"username": "root", "password": PASSWORD})["Location"] == "/"
    user = User.objects.get()
    assert role_of(user) == Role.ADMIN and user.is_superuser
    assert Client().get(url).status_code == 404
    assert Client().post(url, {"username": "second", "password": PASSWORD}).status_code == 404
    assert User.objects.count() == 1


def test_a_weak_password_does_not_use_the_setup_link_up(client: Client) -> None:
    url = reverse("setup", args=[OneTimeLink.issue("setup")])
    assert client.post(url, {"username": "root", "password": "password"}).status_code == 422
    assert client.post(url, {"username": "root", "password": PASSWORD}).status_code == 302


def test_setup_needs_its_link(client: Client) -> None:
    answer = client.get("/setup/guess/")
    assert answer.status_code == 404 and b"link.spent" in answer.content


def test_a_preview_does_not_use_a_sign_in_link_up(client: Client, admin: User) -> None:
    url = reverse("sign_in", args=[OneTimeLink.issue("sign_in", admin)])
    for _ in range(3):
        assert Client().get(url).status_code == 200
    assert client.post(url)["Location"] == "/"
    assert client.session["_auth_user_id"] == str(admin.pk)
    assert Client().post(url).status_code == 404


def test_an_old_link_and_one_of_a_deactivated_person_do_nothing(client: Client, admin: User) -> None:
    old = OneTimeLink.issue("sign_in", admin)
    OneTimeLink.objects.update(expires_at=timezone.now())
    assert client.post(reverse("sign_in", args=[old])).status_code == 404
    url = reverse("sign_in", args=[OneTimeLink.issue("sign_in", admin)])
    User.objects.update(is_active=False)
    assert client.post(url).status_code == 404


def test_a_token_is_shown_once_and_only_its_hash_is_kept(signed_in: Client) -> None:
    answer = signed_in.post("/settings/tokens/", {"name": "ci", "scope": "write", "days": "30"})
    secret = answer.context["secret"]
    token = ApiToken.objects.get()
    assert secret.encode() in answer.content and secret not in str(vars(token))
    assert secret.encode() not in signed_in.get("/settings/tokens/").content
    assert signed_in.post(reverse("settings_token_revoke", args=[token.pk])).status_code == 302
    token.refresh_from_db()
    assert not token.is_live


def test_nobody_revokes_the_token_of_somebody_else(signed_in: Client) -> None:
    token, _ = ApiToken.issue(make_user("grace", Role.EDITOR), "hers", "read")
    assert signed_in.post(reverse("settings_token_revoke", args=[token.pk])).status_code == 404
    assert b"hers" not in signed_in.get("/settings/tokens/").content


def test_a_viewer_gets_no_writing_token(client: Client) -> None:
    client.force_login(make_user("vic", Role.VIEWER))
    answer = client.post("/settings/tokens/", {"name": "x", "scope": "write", "days": "30"})
    assert answer.status_code == 422 and not ApiToken.objects.exists()


@pytest.mark.parametrize("role", [Role.VIEWER, Role.EDITOR])
def test_only_admins_see_people(client: Client, role: Role) -> None:
    client.force_login(make_user("eve", role))
    answer = client.get("/settings/users/")
    assert answer.status_code == 403 and b"access.role" in answer.content
    assert client.post("/settings/users/", {"username": "x", "role": "admin"}).status_code == 403


def test_adding_somebody_without_password_shows_a_link_that_works_once(signed_in: Client) -> None:
    answer = signed_in.post("/settings/users/", {"username": "grace", "role": "editor", "password": ""})
    link = answer.context["link"]
    guest = Client()
    assert guest.post(link).status_code == 302 and guest.get("/settings/profile/").status_code == 200
    assert role_of(User.objects.get(username="grace")) == Role.EDITOR


def test_a_name_is_taken_whatever_its_case(signed_in: Client) -> None:
    answer = signed_in.post("/settings/users/", {"username": "ADA", "role": "editor"})
    assert answer.status_code == 422 and User.objects.count() == 1


def test_the_last_admin_stays(admin: User) -> None:
    with pytest.raises(Conflict, match="last admin"):
        services.change_role(admin, admin, Role.VIEWER)
    with pytest.raises(Conflict, match="last admin"):
        services.set_active(admin, admin, False)
    second = make_user("grace", Role.ADMIN, PASSWORD)
    services.change_role(second, admin, Role.VIEWER)
    admin.refresh_from_db()
    assert role_of(admin) == Role.VIEWER and not admin.is_superuser and not admin.is_staff


def test_a_deactivated_person_is_out_at_once(signed_in: Client) -> None:
    grace = make_user("grace", Role.EDITOR, PASSWORD)
    hers = Client()
    hers.force_login(grace)
    assert hers.get("/models/").status_code == 200
    signed_in.post(reverse("settings_user_active", args=[grace.pk]), {"active": "0"})
    assert hers.get("/models/")["Location"].startswith("/login/")


def test_a_new_password_ends_the_other_sessions_and_keeps_this_one(signed_in: Client, admin: User) -> None:
    other = Client()
    other.force_login(admin)
    bad = signed_in.post("/settings/profile/", {"current": "wrong", "password": "another-odd-one-9"})
    assert bad.status_code == 422
    good = signed_in.post("/settings/profile/", {"current": PASSWORD, "password": "another-odd-one-9"})
    assert good.status_code == 302 and signed_in.get("/settings/profile/").status_code == 200
    assert other.get("/settings/profile/").status_code == 302


def test_who_came_by_link_chooses_a_password_without_the_old_one(client: Client) -> None:
    grace = make_user("grace", Role.EDITOR)
    client.force_login(grace)
    assert client.post("/settings/profile/", {"password": PASSWORD}).status_code == 302
    grace.refresh_from_db()
    assert grace.check_password(PASSWORD)


def test_the_theme_is_kept_in_a_cookie_and_printed(signed_in: Client) -> None:
    signed_in.post("/settings/theme/", {"theme": "dark"})
    assert b'data-theme="dark"' in signed_in.get("/settings/profile/").content
    signed_in.post("/settings/theme/", {"theme": '"><script>'})
    assert signed_in.cookies["theme"].value == "dark"


def test_an_error_page_for_a_stranger_names_no_page_of_ours(client: Client) -> None:
    answer = client.get("/nowhere/")
    assert answer.status_code == 404
    assert b"page.not_found" in answer.content and b'href="/jobs/"' not in answer.content


@pytest.mark.parametrize("name", ["400.html", "500.html"])
def test_error_pages_need_no_request(name: str) -> None:
    page = render_to_string(name)
    assert "Code: <code>" in page and "<main" in page


def test_the_command_prints_a_link_that_signs_in(client: Client, admin: User, capsys: pytest.CaptureFixture) -> None:
    call_command("signin_link")
    link = capsys.readouterr().out.strip()
    assert client.post(link.removeprefix("http://127.0.0.1:8500"))["Location"] == "/"
