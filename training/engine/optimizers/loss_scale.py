"""Loss scaling for float16, whose smallest number is 6e-8: gradients are computed of the scaled loss.

Micikevicius et al. 2018, arXiv 1710.03740, with the rule of torch.amp.GradScaler: an update whose gradients
are not finite is left out and the scale is halved; after many good updates it is doubled. The scale starts
lower than there, because losses here are sums over a micro-batch and not means.
"""

from __future__ import annotations

from dataclasses import dataclass

from training.engine.errors import Diverged

START, GROW_AFTER, MOST = 1024.0, 200, 2.0**24


@dataclass(slots=True)
class LossScale:
    """The scale, and how long it has been good for."""

    value: float = START
    good: int = 0
    """Updates in a row without an overflow."""

    def saw(self, *, finite: bool) -> None:
        """After an update. Raises Diverged when no scale helps."""
        if not finite:
            self.value, self.good = self.value / 2, 0
            if self.value < 1:
                raise Diverged(
                    "diverged.float16",
                    "The gradients are beyond float16, whatever the loss is scaled by.",
                    "Train in bfloat16 or float32, or with a lower learning rate.",
                )
            return
        self.good += 1
        if self.good >= GROW_AFTER and self.value < MOST:
            self.value, self.good = self.value * 2, 0
