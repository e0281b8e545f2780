"""What is counted of rows that are compared or judged: pairs, margins, labels, reference answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


def characters(row: dict[str, Any]) -> int:
    """Characters of all texts of a normal row, its turns included; roles are none."""
    turns = row.get("messages", row.get("prompt"))
    texts = [str(turn["content"]) for turn in turns] if isinstance(turns, list) else []
    return sum(map(len, texts)) + sum(len(value) for value in row.values() if isinstance(value, str))


@dataclass(slots=True)
class Tally:
    """Counts over the good rows of a set; what no row has is left out of :meth:`as_dict`."""

    pairs: int = 0
    rated: int = 0
    margins: float = 0.0
    longer: int = 0
    judged: int = 0
    good: int = 0
    prompts: int = 0
    answered: int = 0

    def add(self, row: dict[str, Any]) -> None:
        """Count one row in the normal form; rows to be imitated have nothing to count here."""
        if "rejected" in row:
            self.pairs += 1
            self.longer += len(row["chosen"]) > len(row["rejected"])
            if "margin" in row:
                self.rated += 1
                self.margins += row["margin"]
        elif "label" in row:
            self.judged += 1
            self.good += row["label"]
        elif isinstance(row.get("prompt"), list):
            self.prompts += 1
            self.answered += "answer" in row

    def as_dict(self) -> dict[str, Any]:
        """``{"pairs", "rated", "mean_margin", "chosen_longer"}`` | ``{"judged", "good_share"}`` |
        ``{"prompts", "answered"}`` | ``{}``. Shares are between 0 and 1.

        ``chosen_longer``: in which share of the pairs the chosen answer is the longer one. Where it is
        far from a half, length alone tells the answers apart, and a model may learn just that.
        """
        if self.pairs:
            mean = round(self.margins / self.rated, 4) if self.rated else None
            longer = round(self.longer / self.pairs, 4)
            return {"pairs": self.pairs, "rated": self.rated, "mean_margin": mean, "chosen_longer": longer}
        if self.judged:
            return {"judged": self.judged, "good_share": round(self.good / self.judged, 4)}
        return {"prompts": self.prompts, "answered": self.answered} if self.prompts else {}
