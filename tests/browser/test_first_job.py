"""The road of a newcomer in a real browser: sign in by the link, start, watch, stop, resume, succeed.

``manage.py serve`` and the engine are the real ones; the model is tiny. Updates are made slow by
accumulation, not by waiting, so that there is time to watch; all of them fit the table under the chart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.axe import violations
from tests.browser.wire import Wire
from tests.chaos.house import House

pytestmark = pytest.mark.browser
STEPS = 100
SETTINGS = {
    "iters": STEPS,
    "batch_size": 10,
    "grad_accumulation_steps": 3,
    "max_seq_length": 64,
    "learning_rate": "1e-3",
    "steps_per_eval": 25,
    "save_every": 20,
    "sample_tokens": 4,
}
PREPARE = """
import django
django.setup()
from mlxplatform.core.access import Role, make_user
from registry.models import ModelVersion, RegisteredModel
from training.models import Dataset, DatasetVersion
make_user("ada", Role.ADMIN, superuser=True)
model = RegisteredModel.objects.create(name="tiny")
ModelVersion.objects.create(model=model, n=1, kind="base", path="models/tiny", model_type="llama", context_length=2048)
data = Dataset.objects.create(name="rows")
DatasetVersion.objects.create(dataset=data, n=1, sha256="rows", data_format="chat", rows_train=40, rows_valid=6)
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
    """A page that is signed in by a link from the console."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(house.python("manage.py", "signin_link", "ada"))
    page.get_by_role("button", name=re.compile("sign in", re.IGNORECASE)).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Home")
    yield page
    context.close()


def start(page: Page, port: int, **changed: Any) -> str:
    """Fill in the form, press Start, and return the job's id."""
    page.goto(f"http://127.0.0.1:{port}/jobs/new/")
    page.locator("#fold-adjust > summary").click()
    page.locator("#fold-expert > summary").click()
    for name, value in {**SETTINGS, **changed}.items():
        page.locator(f"[name={name}]").fill(str(value))
    page.locator("#start-button").click()
    page.wait_for_url(re.compile(r"/jobs/[0-9a-f-]{36}/$"))
    return page.url.rstrip("/").rsplit("/", 1)[1]


def expect_state(page: Page, state: str, seconds: float = 60) -> None:
    expect(page.locator("#job-head h1 + .state")).to_have_text(re.compile(rf"^\s*{state}\s*$"), timeout=seconds * 1000)


def watched_steps(page: Page) -> list[int]:
    """The steps in the table under the loss chart that have a training loss, as the page has them now."""
    table = page.locator("#loss details.plain")
    if not table.evaluate("fold => fold.open"):
        table.locator("summary").click()
    rows = table.locator("tbody tr").evaluate_all("rows => rows.map(r => [...r.cells].map(c => c.textContent))")
    return sorted(int(step.replace(",", "")) for step, loss, *_ in rows if re.match(r"[\d.]+$", loss))


def stored_steps(page: Page, house: House, job: str) -> list[int]:
    answer = page.request.get(f"http://127.0.0.1:{house.port}/jobs/{job}/series.json?keys=train_loss")
    return list(answer.json()["train_loss"]["step"])


def wait_for_points(page: Page, count: int) -> None:
    """Until the open page has drawn so many points; without a reload."""
    page.locator("#loss canvas").wait_for(timeout=60_000)
    watched_steps(page)
    expect(page.locator("#loss details tbody tr").nth(count - 1)).to_be_attached(timeout=90_000)


def test_a_first_job_is_started_watched_stopped_resumed_and_succeeds(house: House, page: Page, shots: Path) -> None:
    said: list[str] = []
    page.on("console", lambda m: said.append(m.text) if m.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    job = start(page, house.port)
    page.evaluate("window.untouched = true")
    expect_state(page, "running")
    wait_for_points(page, 5)
    page.get_by_role("button", name="Stop and keep").click()
    expect_state(page, "stopped")
    kept = house.job(job)["step"]
    assert 0 < kept < STEPS
    expect(page.locator("#aside")).to_contain_text(f"step {kept}")
    page.get_by_role("button", name="Resume").click()
    expect_state(page, "succeeded", 120)
    expect(page.locator("#job-head")).to_contain_text("attempt 2")
    expect(page.locator("#job-head")).to_contain_text("against the model before training")
    assert page.evaluate("window.untouched") is True  # never reloaded
    assert watched_steps(page) == stored_steps(page, house, job) == list(range(1, STEPS + 1))
    expect(page.locator("#samples .prompt").first).to_be_visible()
    assert page.title().startswith("✓")
    assert violations(page) == []
    assert said == []
    page.screenshot(path=shots / "first-job.png", full_page=True)


def test_ten_seconds_offline_leave_no_gap_and_nothing_twice(house: House, page: Page) -> None:
    wire = Wire(house.port)
    job = start(page, wire.port)
    wait_for_points(page, 3)
    wire.cut()
    seen = watched_steps(page)
    house.wait(lambda: house.job(job)["step"] >= seen[-1] + 20, 60)
    expect(page.locator("#live-chip")).to_be_visible(timeout=10_000)
    assert watched_steps(page) == seen
    wire.mend()
    expect(page.locator("#live-chip")).to_be_hidden(timeout=30_000)
    expect_state(page, "succeeded", 120)
    assert watched_steps(page) == list(range(1, STEPS + 1))
    wire.cut()


def test_a_restart_of_the_web_process_is_not_noticed_by_the_training(house: House, page: Page) -> None:
    job = start(page, house.port)
    wait_for_points(page, 3)
    house.kill("web")
    expect_state(page, "succeeded", 120)
    assert watched_steps(page) == list(range(1, STEPS + 1))
    assert len(house.attempts(job)) == 1


def test_everything_is_readable_and_pressable_without_javascript(house: House, chromium: Browser) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(house.python("manage.py", "signin_link", "ada"))
    page.get_by_role("button", name=re.compile("sign in", re.IGNORECASE)).click()
    job = start(page, house.port, iters=2000)
    house.wait_step(job, 1)
    page.reload()
    expect(page.locator("#job-head")).to_contain_text("/ 2,000 steps")
    page.get_by_role("button", name="Stop and keep").click()
    house.wait_end(job, "stopped")
    page.goto(f"http://127.0.0.1:{house.port}/jobs/?q=tiny")
    expect(page.locator(f"#row-{job} .st")).to_contain_text("stopped")
    context.close()


@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")])
def test_pages_have_no_violation_and_no_sideways_scroll(
    house: House, page: Page, shots: Path, width: int, theme: str
) -> None:
    base = f"http://127.0.0.1:{house.port}"
    page.context.add_cookies([{"name": "theme", "value": theme, "url": base}])
    page.set_viewport_size({"width": width, "height": 900})
    job = json.loads(page.request.get(f"{base}/api/v1/jobs").text())["items"][0]["id"]
    for name, path in {"home": "/", "list": "/jobs/", "new": "/jobs/new/", "job": f"/jobs/{job}/"}.items():
        page.goto(base + path)
        page.wait_for_load_state("networkidle")
        assert violations(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        page.screenshot(path=shots / f"{name}-{width}-{theme}.png", full_page=True)
