"""Forms of the models pages."""

from __future__ import annotations

from django import forms


class ModelForm(forms.Form):
    """Name and description of a registered model."""

    name = forms.CharField(max_length=120)
    description = forms.CharField(required=False, max_length=20_000, widget=forms.Textarea(attrs={"rows": 4}))
