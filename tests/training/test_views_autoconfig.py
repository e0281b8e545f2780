"""The card "Set up for me"."""

from __future__ import annotations

import html
import re

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from tests.training.test_configure import Chosen, chosen, tell
from tests.training.test_memory_plans import editor

__all__ = ["chosen", "editor"]
pytestmark = pytest.mark.django_db


def test_the_card_says_why_and_its_link_fills_the_form(
    client: Client, editor: User, chosen: Chosen, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, "cpu", fits_at=1)
    posted = {"model": str(chosen[0].pk), "data": str(chosen[1].pk), "name": "mine", "method": "sft"}
    shown = client.post(reverse("job_autoconfig"), posted).content.decode()
    assert "Gradient checkpointing" in shown and "Changed so that it fits" in shown and "Alpha 16" in shown
    link = re.search(r'href="([^"]+)">Use these', shown)
    assert link
    form = client.get(html.unescape(link[1])).content.decode()
    assert 'value="mine"' in form
    rate, rank = (
        re.search(r'name="learning_rate"[^>]*value="([^"]*)"', form),
        re.search(r'name="adapter.rank"[^>]*value="([^"]*)"', form),
    )
    assert rate and rank and (rate[1], rank[1]) == ("0.0002", "8")


def test_what_is_missing_is_said_in_the_card(client: Client, editor: User, chosen: Chosen) -> None:
    shown = client.post(reverse("job_autoconfig"), {"model": "", "data": str(chosen[1].pk)})
    assert (shown.status_code, b"There is no such model." in shown.content) == (200, True)
    assert b'hx-post="/jobs/new/autoconfig/"' in client.get(reverse("job_new")).content
