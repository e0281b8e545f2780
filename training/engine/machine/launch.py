"""MLX's own ``mlx.launch``, deaf to the signals that end a training.

A stop reaches the captain's whole process group, and a launcher that it ended would take remote ranks with it
before they could save. Children inherit the deafness; a rank listens to the captain alone.
"""

from __future__ import annotations

import signal
import sys

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, signal.SIG_IGN)

if __name__ == "__main__":
    # Loading MLX takes a third of a second, in which a signal would end this process.
    from mlx._distributed_utils.launch import main

    sys.exit(main())
