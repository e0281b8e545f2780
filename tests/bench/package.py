"""mlx-lm-lora, installed beside the environment: it is a peer to measure, not something we depend on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACKAGE = "mlx-lm-lora==5.10.2"


def install(folder: Path) -> str:
    """Put the package into ``folder``, once. Returns "" or why it cannot be had.

    Without its dependencies: what ``train_sft`` imports (mlx, mlx-lm, numpy, tqdm) is here already.
    """
    if (folder / "mlx_lm_lora").is_dir():
        return ""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check",
               "--target", str(folder), PACKAGE]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode == 0:
        return ""
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return f"{PACKAGE} could not be installed: {said[-1][:160] if said else 'pip said nothing'}"
