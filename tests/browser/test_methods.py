"""Another method in a real browser: what follows from it comes, what was typed stays; the curve follows the typing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.axe import violations
from tests.chaos.house import House

pytestmark = pytest.mark.browser
PREPARE = """
import django
django.setup()
from mlxplatform.core.access import Role, make_user
from registry.models import ModelVersion, RegisteredModel
from training.models import Dataset, DatasetVersion
make_user("ada", Role.ADMIN, superuser=True)
for name, heads in (("tiny", []), ("judge", ["score"])):
    model = RegisteredModel.objects.create(name=name)
    ModelVersion.objects.create(model=model, n=1, kind="base", path="models/tiny", model_type="llama", heads=heads)
for name, form in (("pairs", "preference"), ("chats", "chat")):
    data = Dataset.objects.create(name=name)
    DatasetVersion.objects.create(dataset=data, n=1, sha256=name, data_format=form, rows_train=40, rows_valid=6)
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    place = House(tmp_path_factory.mktemp("house"))
    place.python("-c", PREPARE)
    place.serve()
    yield place
    place.close()


@pytest.fixture
def page(house: House, chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(house.python("manage.py", "signin_link", "ada"))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Home")
    yield page
    context.close()


def test_another_method_by_keyboard_keeps_what_was_typed(house: House, page: Page) -> None:
    page.goto(f"http://127.0.0.1:{house.port}/jobs/new/")
    data = page.locator("#choose-data")
    expect(data.get_by_label("chats")).to_be_checked()
    page.get_by_label("DPO", exact=True).check()
    expect(data.get_by_label("pairs")).to_be_checked()
    page.locator("#fold-method > summary").click()
    page.locator("#f-method-beta").fill("0.3")
    page.get_by_label("DPO", exact=True).focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#method-about")).to_contain_text("KTO.")
    expect(page.get_by_label("KTO", exact=True)).to_be_focused()
    expect(data).to_contain_text("No data for KTO yet")
    expect(page.locator("#start-button")).to_be_disabled()
    assert violations(page) == []
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#method-about")).to_contain_text("DPO.")
    expect(page.locator("#f-method-beta")).to_have_value("0.3")
    expect(page.locator("#start-button")).to_be_enabled()


def test_a_reward_model_is_asked_for_as_soon_as_it_counts(house: House, page: Page) -> None:
    page.goto(f"http://127.0.0.1:{house.port}/jobs/new/?method=grpo")
    expect(page.locator("#others-reward_model")).to_have_count(0)
    page.locator("#f-method-reward_model_weight").fill("1")
    expect(page.locator("#others-reward_model").get_by_label("judge")).to_be_visible()
    expect(page.locator("#others-reward_model").get_by_label("tiny")).to_have_count(0)
    expect(page.locator("#f-method-reward_model_weight")).to_be_focused()
    assert violations(page) == []


def test_the_curve_follows_and_a_preset_comes_back_in_the_form(house: House, page: Page) -> None:
    page.goto(f"http://127.0.0.1:{house.port}/optimizers/")
    line = page.locator("#preview polyline")
    before = line.get_attribute("points")
    page.get_by_label("Schedule", exact=True).select_option("wsd")
    expect(line).not_to_have_attribute("points", before or "")
    page.locator("#f-lr_schedule-decay_ratio").fill("0.5")
    page.locator("#f-preset_name").fill("long fall")
    page.get_by_role("button", name="Save as preset").click()
    expect(page.get_by_role("link", name="long fall")).to_be_visible()
    assert violations(page) == []
    page.goto(f"http://127.0.0.1:{house.port}/jobs/new/")
    page.locator("#f-name").fill("mine")
    page.locator("#fold-expert > summary").click()
    page.get_by_label("Optimizer preset", exact=True).select_option(label="long fall")
    expect(page.locator("#f-lr_schedule-decay_ratio")).to_have_value("0.5")
    expect(page.locator("#f-name")).to_have_value("mine")
    assert violations(page) == []
