"""The lines of ``docs/api.md`` do what the form does: run as they stand there against a live dashboard."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.house import ROOT, House

SEED = """
import django
django.setup()
from mlxplatform.core.access import Role, make_user
from mlxplatform.core.models import ApiToken
from registry.models import ModelVersion, RegisteredModel
model = RegisteredModel.objects.create(name="tiny")
ModelVersion.objects.create(model=model, n=1, kind="base", path="models/tiny", model_type="llama", context_length=512)
print(ApiToken.issue(make_user("curl", Role.EDITOR), "docs", "write")[1])
"""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "home")
    yield made
    made.close()


def script() -> str:
    """All code of the document, in order; ends at the first line that fails."""
    blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL | re.MULTILINE)
    return "set -euo pipefail\n" + "\n".join(blocks)


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="the document's lines need curl and jq")
def test_the_lines_of_the_document_run(house: House, tmp_path: Path) -> None:
    token = house.python("-c", SEED)
    house.serve()
    more = {"MLXP": f"http://127.0.0.1:{house.port}", "TOKEN": token, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-c", script()], env={**os.environ, **more}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{house.log()[-3000:]}"
    assert "started by curl" in done.stdout
    assert "event: end" in done.stdout
