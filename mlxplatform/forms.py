"""Forms of sign-in, setup and settings."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import password_validators_help_texts, validate_password

from mlxplatform.core.access import Role
from mlxplatform.core.models import ApiToken

ROLES = [
    (Role.VIEWER.value, "Viewer", "Looks at everything, changes nothing."),
    (Role.EDITOR.value, "Editor", "Also starts jobs and imports data and models."),
    (Role.ADMIN.value, "Admin", "Also manages people and sees the admin pages."),
]
LIFETIMES = [(30, "30 days"), (90, "90 days"), (365, "1 year"), (0, "until revoked")]


def new_password(label: str = "Password", *, required: bool = True) -> forms.CharField:
    """A field for a password that is being chosen; managers may fill it, pasting works."""
    return forms.CharField(
        label=label,
        required=required,
        strip=False,
        max_length=256,
        help_text=" ".join(password_validators_help_texts()[1:2]),
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )


class NameField(forms.CharField):
    """A user name that is still free."""

    def __init__(self, **options: Any) -> None:
        super().__init__(label="Name", min_length=2, max_length=60, validators=[User.username_validator], **options)
        self.widget.attrs.update(autocomplete="username", autocapitalize="none", spellcheck="false")

    def clean(self, value: Any) -> str:
        name: str = super().clean(value)
        if name and User.objects.filter(username__iexact=name).exists():
            raise forms.ValidationError(f"There is a {name} already. Choose another name.", code="user.taken")
        return name


class SetupForm(forms.Form):
    """The first administrator."""

    username = NameField()
    password = new_password()

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if values.get("password"):
            _check_password(self, "password", User(username=values.get("username", "")))
        return values


class AddUserForm(forms.Form):
    """Somebody new; without a password they get a one-time link."""

    username = NameField()
    role = forms.ChoiceField(choices=[(value, label) for value, label, _ in ROLES], initial=Role.EDITOR.value)
    password = new_password(required=False)

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if values.get("password"):
            _check_password(self, "password", User(username=values.get("username", "")))
        return values


class RoleForm(forms.Form):
    """Another role for somebody."""

    role = forms.ChoiceField(choices=[(value, label) for value, label, _ in ROLES])


class PasswordForm(forms.Form):
    """Change one's own password. Who came by a one-time link has none yet and is not asked for it."""

    current = forms.CharField(
        label="Current password",
        strip=False,
        max_length=256,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )
    password = new_password("New password")

    def __init__(self, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        if not user.has_usable_password():
            del self.fields["current"]

    def clean_current(self) -> str:
        current: str = self.cleaned_data["current"]
        if not self.user.check_password(current):
            raise forms.ValidationError("This is not your current password.", code="password.wrong")
        return current

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if values.get("password"):
            _check_password(self, "password", self.user)
        return values


class TokenForm(forms.Form):
    """A new API token."""

    name = forms.CharField(max_length=80, help_text="What it is for, such as: nightly script.")
    scope = forms.ChoiceField(choices=ApiToken.Scope.choices, initial=ApiToken.Scope.READ)
    days = forms.TypedChoiceField(label="Good for", coerce=int, choices=LIFETIMES, initial=90)

    def __init__(self, *args: Any, may_write: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not may_write:
            self.fields["scope"].choices = [ApiToken.Scope.choices[0]]  # type: ignore[attr-defined]


def _check_password(form: forms.Form, field: str, user: User) -> None:
    try:
        validate_password(form.cleaned_data[field], user)
    except forms.ValidationError as error:
        form.add_error(field, error)
