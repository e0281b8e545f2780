"""What earlier trainings on this machine held in memory, measured over planned; kept beside the compiled kernels."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

from training.engine.planning.memory_plan import Calibration
from training.engine.run.rundir import write_json

KEEP = 20  # measurements of each kind
SANE = (0.05, 20.0)  # a ratio beyond this is no measurement of what was planned
_FILE = "memory.json"


def key(backend: str, model_type: str, *, grad_checkpoint: bool) -> str:
    """Kind of training whose plans err alike."""
    return f"{backend}/{model_type}/{'checkpointed' if grad_checkpoint else 'plain'}"


def read(folder: Path | None, kind: str) -> Calibration:
    """What is known of ``kind``; nothing without a folder or a readable file."""
    ratios = _ratios(folder).get(kind, [])
    if not ratios:
        return Calibration()
    middle = median(ratios)
    error = max(abs(ratio / middle - 1) for ratio in ratios) if len(ratios) > 1 else None
    return Calibration(len(ratios), middle, error)


def add(folder: Path | None, kind: str, ratio: float) -> None:
    """Remember one measurement. A folder that cannot be written costs the memory, not the training."""
    if folder is None or not SANE[0] <= ratio <= SANE[1]:
        return
    known = _ratios(folder)
    known[kind] = [*known.get(kind, []), round(ratio, 4)][-KEEP:]
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_json(folder / _FILE, {"schema": 1, "ratios": known})
    except OSError:
        return


def _ratios(folder: Path | None) -> dict[str, list[float]]:
    if folder is None:
        return {}
    try:
        raw = json.loads((folder / _FILE).read_text(encoding="utf-8"))["ratios"]
        return {str(k): [float(r) for r in v if SANE[0] <= float(r) <= SANE[1]][-KEEP:] for k, v in raw.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
