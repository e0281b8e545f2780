"""A model is evaluated and made champion in a real browser, by the real engine; every page is looked at.

Two versions of one tiny model, so that an alias has somewhere to move.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.axe import violations
from tests.chaos.house import House
from tests.fakes import tiny

pytestmark = pytest.mark.browser
PREPARE = """
import django
django.setup()
from mlxplatform.core.access import Role, make_user
from registry.models import ModelVersion, RegisteredModel
from training.models import Dataset, DatasetVersion
make_user("ada", Role.ADMIN, superuser=True)
model = RegisteredModel.objects.create(name="tiny")
for n, path in ((1, "models/tiny"), (2, "models/other")):
    ModelVersion.objects.create(model=model, n=n, kind="base", path=path, model_type="llama")
data = Dataset.objects.create(name="rows")
DatasetVersion.objects.create(dataset=data, n=1, sha256="rows", data_format="chat", rows_train=40, rows_valid=6)
print(ModelVersion.objects.get(n=1).pk, ModelVersion.objects.get(n=2).pk, model.pk)
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    place = House(tmp_path_factory.mktemp("house"))
    tiny.make(place.home / "models" / "other", seed=1)
    place.serve()
    yield place
    place.close()


@pytest.fixture(scope="module")
def ids(house: House) -> list[str]:
    """The two versions and the model."""
    return house.python("-c", PREPARE).split()


@pytest.fixture
def page(house: House, ids: list[str], chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, base_url=f"http://127.0.0.1:{house.port}")
    page = context.new_page()
    page.goto(house.python("manage.py", "signin_link", "ada"))
    page.get_by_role("button", name=re.compile("sign in", re.IGNORECASE)).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Home")
    yield page
    context.close()


def look(page: Page, url: str, name: str, shots: Path, wait: str = "h1") -> None:
    """The page in both themes and widths: nothing that axe objects to, nothing wider than the screen."""
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        for theme in ("light", "dark"):
            page.context.add_cookies([{"name": "theme", "value": theme, "url": page.url}])
            page.goto(url)
            page.locator(wait).first.wait_for()
            page.wait_for_load_state("networkidle")
            page.screenshot(path=shots / f"{name}-{width}-{theme}.png", full_page=True)
            assert violations(page) == []
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.set_viewport_size({"width": 1440, "height": 900})


def evaluate(page: Page, version: str, rules: str) -> str:
    """From the version's page through the form to the end; returns the job's address."""
    page.goto(f"/models/versions/{version}/")
    page.get_by_role("link", name="Evaluate").first.click()
    page.locator("[name=rules]").fill(rules)
    page.locator("[name=max_tokens]").fill("8")
    page.get_by_role("button", name="Evaluate").click()
    page.wait_for_url(re.compile(r"/jobs/[0-9a-f-]{36}/$"))
    expect(page.locator("#figures")).to_contain_text("Perplexity", timeout=120_000)
    expect(page.locator("#job-head h1 + .state")).to_have_text(re.compile(r"^\s*succeeded\s*$"), timeout=60_000)
    return page.url


def test_versions_are_evaluated_and_compared(page: Page, ids: list[str], shots: Path) -> None:
    page.goto(f"/jobs/evaluate/?model={ids[0]}")
    page.locator("[name=rules]").fill("praise")
    page.get_by_role("button", name="Evaluate").click()
    expect(page.locator(".error-summary")).to_contain_text("There is no rule 'praise'")
    rules = "length at_most=8\nregex pattern='^no such text$'"
    jobs = [evaluate(page, version, rules) for version in ids[:2]]
    expect(page.locator("#figures")).to_contain_text("Regular expression")
    expect(page.locator("#samples")).to_contain_text("In the data")
    page.goto(f"/models/versions/{ids[0]}/")
    expect(page.locator("#evaluations tbody tr")).to_have_count(1)
    marked = [page.goto(f"/models/versions/{key}/evaluations/").text().count('aria-label="best"') for key in ids[:2]]
    assert sum(marked) >= 2  # loss and perplexity, at one of them
    look(page, f"/jobs/evaluate/?model={ids[0]}", "evaluation-new", shots)
    look(page, jobs[0], "evaluation-job", shots, "#figures dl")
    look(page, f"/models/versions/{ids[0]}/", "evaluation-version", shots, "#evaluations table")


def test_a_champion_is_made_moved_and_taken_back(page: Page, ids: list[str], shots: Path) -> None:
    page.goto(f"/models/versions/{ids[0]}/")
    page.get_by_role("button", name="Make champion").click()
    expect(page.locator("#aliases")).to_contain_text("nowhere → v1")
    page.goto(f"/models/versions/{ids[1]}/")
    page.get_by_role("button", name="Make champion").click()
    page.get_by_role("button", name="Move it here").click()
    expect(page.locator("#aliases")).to_contain_text("v1 → v2")
    look(page, f"/models/{ids[2]}/", "aliases", shots, "#aliases table")
    page.get_by_role("button", name="Back to v1").click()
    expect(page.locator("#aliases")).to_contain_text("v2 → v1")
    page.locator("#aliases [data-dialog]").click()
    page.get_by_role("button", name="Remove", exact=True).click()
    expect(page.locator("#aliases")).to_contain_text("nowhere")
