from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlxplatform.core.env import Env, secret_key

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


def test_every_variable_is_documented_with_its_default():
    rows = dict(re.findall(r"^\| `(MLXP_\w+)` \| (\S*) ?\|", DOCUMENT.read_text(), flags=re.M))
    wanted = {}
    for name, field in Env.model_fields.items():
        value = str(field.default).lower() if name != "home" else "./var"
        wanted[f"MLXP_{name.upper()}"] = f"`{value}`" if value else ""
    assert rows == wanted


def test_the_secret_is_made_once_and_private(tmp_path):
    assert secret_key(tmp_path / "new") == secret_key(tmp_path / "new")
    assert (tmp_path / "new" / "secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("name", "value"), [("port", 0), ("device_slots", 0), ("grace_s", -1)])
def test_nonsense_is_refused(name, value):
    with pytest.raises(ValueError, match=name):
        Env(**{name: value})
