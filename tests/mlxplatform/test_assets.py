"""The copying of browser files: exact, repeatable, and clear about what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxplatform import assets


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose packages are already installed, with small files in place of the real ones."""
    lock = {"packages": {"": {}, "node_modules/htmx.org": {"version": "2.0.11"}}}
    (tmp_path / "package-lock.json").write_text(json.dumps(lock))
    modules = tmp_path / "node_modules"
    icons = [f"@tabler/icons/icons/{name}.svg" for name in assets.ICONS.values()]
    for name in [*assets.FILES, *icons]:
        (modules / name).parent.mkdir(parents=True, exist_ok=True)
        (modules / name).write_text(f'<svg viewBox="0 0 24 24"><path d="{name}"/></svg>')
    (modules / ".package-lock.json").write_text(json.dumps(lock))
    return tmp_path


def test_a_second_run_does_nothing(project: Path) -> None:
    assert assets.build(project, project / "vendor") is True
    assert assets.build(project, project / "vendor") is False


def test_a_changed_file_is_restored(project: Path) -> None:
    assets.build(project, project / "vendor")
    before = (project / "vendor" / "htmx.min.js").read_text()
    (project / "vendor" / "htmx.min.js").write_text("something else")
    assert assets.build(project, project / "vendor") is True
    assert (project / "vendor" / "htmx.min.js").read_text() == before


def test_the_manifest_names_every_file_with_its_hash(project: Path) -> None:
    vendor = project / "vendor"
    assets.build(project, vendor)
    files = json.loads((vendor / "manifest.json").read_text())["files"]
    assert files == {name: assets.sha256(vendor / name) for name in [*assets.FILES.values(), "icons.svg"]}


def test_the_sprite_holds_every_icon_once(project: Path) -> None:
    sprite = assets.sprite(project / "node_modules/@tabler/icons/icons")
    assert [sprite.count(f'<symbol id="{name}"') for name in assets.ICONS] == [1] * len(assets.ICONS)


def test_a_missing_file_is_named(project: Path) -> None:
    (project / "node_modules/uplot/dist/uPlot.min.css").unlink()
    with pytest.raises(assets.AssetsError, match=r"uplot/dist/uPlot.min.css"):
        assets.build(project, project / "vendor")


def test_no_npm_is_one_sentence(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "node_modules/.package-lock.json").unlink()
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(assets.sys, "executable", str(project / "python"))
    with pytest.raises(assets.AssetsError, match=r"npm was not found. Install Node.js"):
        assets.build(project, project / "vendor")


def test_a_failing_npm_is_explained(project: Path) -> None:
    (project / "package.json").write_text('{"name": "x", "dependencies": {"uplot": "1.6.32"}}')
    with pytest.raises(assets.AssetsError, match=r"npm ci failed with \w+: .+\. Restore package.json"):
        assets.npm_ci(project)


def test_a_missing_lock_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(assets.AssetsError, match=r"package-lock.json is missing"):
        assets.build(tmp_path, tmp_path / "vendor")
