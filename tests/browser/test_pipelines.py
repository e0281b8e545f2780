"""Pages of pipelines in a real browser: looked at in every state, used by keyboard, alive while somebody types.

The dashboard is served without a worker, so that every run stands still where the stage has put it.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.axe import violations
from tests.training.runs import wait

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parents[2]


class Stage:
    """A data folder with runs in every state, and the web process that shows it."""

    def __init__(self, home: Path) -> None:
        self.environment = {
            **os.environ, "MLXP_HOME": str(home), "MLXP_RESERVE_GB": "0",
            "DJANGO_SETTINGS_MODULE": "mlxplatform.settings", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.environment["MLXP_PORT"] = str(self.port)
        (home / "static").mkdir()
        self.python("manage.py", "migrate", "--verbosity", "0")
        self.urls: dict[str, str] = json.loads(self.python("-m", "tests.browser.stage"))
        reader, self._lifeline = os.pipe()
        command = [sys.executable, "-m", "mlxplatform.web", "--fd", str(self._listener.fileno())]
        self._web = subprocess.Popen(
            [*command, "--lifeline", str(reader)], cwd=ROOT, pass_fds=[self._listener.fileno(), reader],
            env=self.environment, start_new_session=True,
        )  # fmt: skip
        os.close(reader)
        wait(self._answers, 60)

    def _answers(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    def python(self, *arguments: str) -> str:
        """Run a command in this installation and return what it printed."""
        done = subprocess.run([sys.executable, "-W", "ignore", *arguments], cwd=ROOT, env=self.environment,
                              capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def close(self) -> None:
        os.close(self._lifeline)
        self._web.wait(20)
        self._listener.close()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("stage"))
    yield made
    made.close()


@pytest.fixture
def page(stage: Stage, chromium: Browser) -> Iterator[Page]:
    """Signed in as an admin; an error in the console or of the policy fails the test."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, base_url=f"http://127.0.0.1:{stage.port}")
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(stage.python("manage.py", "signin_link", "ada"))
    page.get_by_role("button", name=re.compile("sign in", re.IGNORECASE)).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Home")
    yield page
    context.close()
    assert [text for text in said if "422" not in text and "favicon" not in text] == []


def look(page: Page, url: str, name: str, shots: Path) -> None:
    """The page in both themes and widths: nothing that axe objects to, nothing wider than the screen."""
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        for theme in ("light", "dark"):
            page.context.add_cookies([{"name": "theme", "value": theme, "url": re.sub(r"(?<=\d)/.*", "", page.url)}])
            page.goto(url)
            page.locator("h1").first.wait_for()
            page.screenshot(path=shots / f"pipelines-{name}-{width}-{theme}.png", full_page=True)
            assert violations(page) == []
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert page.locator("h1").count() == 1
    page.set_viewport_size({"width": 1440, "height": 900})


@pytest.mark.parametrize("name", ["approval", "running", "failed", "succeeded", "paused", "queued", "pipeline"])
def test_every_state_can_be_looked_at(stage: Stage, page: Page, shots: Path, name: str) -> None:
    look(page, stage.urls[name], name, shots)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("home", "/"),
        ("gallery", "/pipelines/"),
        ("template", "/pipelines/t/research/"),
        ("editor", "/pipelines/new/?template=chatbot"),
        ("yaml", "/pipelines/new/?template=research&view=yaml"),
    ],
)
def test_every_page_can_be_looked_at(page: Page, shots: Path, name: str, url: str) -> None:
    look(page, url, name, shots)


def test_a_gate_can_be_looked_at(stage: Stage, page: Page, shots: Path) -> None:
    look(page, f"{stage.urls['succeeded']}?step=gate", "gate", shots)


def test_the_form_says_everything_that_is_wrong(page: Page, shots: Path) -> None:
    page.goto("/pipelines/t/chatbot/")
    page.get_by_label("Model", exact=True).select_option("")
    page.get_by_label("Preferences").select_option("")
    page.get_by_label("Updates per stage").fill("many")
    page.get_by_role("button", name="Start").click()
    expect(page.locator(".error-summary")).to_be_focused()
    expect(page.locator(".error-summary li")).to_have_count(3)
    expect(page.get_by_label("Updates per stage")).to_have_value("many")
    assert violations(page) == []
    page.screenshot(path=shots / "pipelines-errors-1440-light.png", full_page=True)
    page.locator(".error-summary a", has_text="Preferences").click()
    expect(page.get_by_label("Preferences")).to_be_focused()


def test_a_run_is_started_from_the_gallery(page: Page) -> None:
    page.goto("/pipelines/")
    page.get_by_role("link", name="Use New domain").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("New domain")
    page.goto("/pipelines/")
    page.get_by_role("link", name="Use Chatbot").click()
    page.get_by_label("Updates per stage").fill("7")
    page.get_by_role("button", name="Start").click()
    page.wait_for_url(re.compile(r"/pipelines/runs/[0-9a-f-]{36}/$"))
    expect(page.locator(".timeline > li")).to_have_count(6)
    expect(page.locator("#node-sft")).to_have_attribute("aria-current", "true")


def test_a_step_opens_in_place_and_keeps_the_focus(stage: Stage, page: Page) -> None:
    page.goto(stage.urls["running"])
    page.locator("#node-compare").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#drawer-title")).to_have_text("Is DPO better?")
    assert page.url.endswith("?step=compare")
    expect(page.locator("#node-compare")).to_be_focused()
    with page.expect_response(re.compile("/live/")):
        pass
    expect(page.locator("#drawer-title")).to_have_text("Is DPO better?")
    page.reload()
    expect(page.locator("#drawer-title")).to_have_text("Is DPO better?")


def test_what_changes_appears_by_itself(stage: Stage, page: Page) -> None:
    page.goto(stage.urls["running"])
    expect(page.locator("#node-ppo")).to_contain_text("63 %")
    page.locator("#step summary", has_text="Settings").click()
    code = "import django; django.setup(); from training.models import Job; "
    stage.python("-c", code + "Job.objects.filter(state='running').update(progress=0.8, step=800)")
    expect(page.locator("#node-ppo")).to_contain_text("80 %", timeout=15_000)
    expect(page.locator("#step details[open]", has_text="Settings")).to_have_count(1)


def test_a_person_approves_by_keyboard_with_a_note_that_survives(stage: Stage, page: Page) -> None:
    page.goto(stage.urls["approval"])
    note = page.get_by_label("Note")
    note.focus()
    page.keyboard.type("Shorter and right")
    for _ in range(2):
        with page.expect_response(re.compile("/live/")):
            pass
    expect(note).to_be_focused()
    assert "your decision" in page.title()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Approve")).to_be_focused()
    with page.expect_response(re.compile("/live/")):
        pass
    expect(page.get_by_role("button", name="Approve")).to_be_focused()
    expect(note).to_have_value("Shorter and right")
    page.keyboard.press("Enter")
    expect(page.locator("#step")).to_contain_text("Approved by ada: Shorter and right.")
    expect(page.locator("#node-approve")).to_have_class(re.compile("is-succeeded"))


def test_a_run_is_cancelled_after_a_question(stage: Stage, page: Page) -> None:
    page.goto(stage.urls["queued"])
    page.get_by_role("button", name="Cancel").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("saves a checkpoint")
    assert violations(page) == []
    with page.expect_response(re.compile("/live/")):
        pass
    expect(dialog).to_be_visible()  # a swap does not close it
    page.get_by_role("button", name="Cancel the run").click()
    expect(page.get_by_role("button", name="Stopping…")).to_be_disabled()


def test_the_editor_adds_a_step_and_saves_a_version(stage: Stage, page: Page) -> None:
    page.goto(stage.urls["pipeline"])
    page.get_by_role("link", name="Edit", exact=True).click()
    page.get_by_role("button", name="Add a step").click()
    step = page.locator("#fold-s6")
    expect(step).to_be_visible()
    expect(page.locator("#editor.htmx-added")).to_have_count(0)  # from then on it listens
    step.get_by_label("Kind").select_option("gate")
    expect(step.get_by_label("Figures under names")).to_be_visible()
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".error-summary")).to_contain_text("Step 7, step_1")
    step.get_by_label("Settings").fill("condition: val_loss < 2.1")
    step.get_by_label("Metrics").select_option("dpo.metrics")
    page.get_by_role("button", name="YAML").click()
    assert "condition: val_loss < 2.1" in page.get_by_label("Definition").input_value()
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".notice.good")).to_contain_text("Saved as version 2.")
    expect(page.locator(".graph .node")).to_have_count(7)
