"""What one rank of a group sees; run by mlx.launch for ``test_distributed.py``, prints one line of JSON."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import mlx.core as mx

from training.engine.errors import ConfigError, Exit, StopAsked
from training.engine.loop import distributed
from training.engine.loop.distributed import Group, PeerLost
from training.engine.machine import random_stream
from training.engine.run.rank import Mute, RankSession
from training.engine.run.rundir import RunDir

SIZES = [7, 1, 30, 12, 12, 3, 8]


def tree(seed: int) -> dict[str, Any]:
    """Gradients of several shapes; one is larger than a buffer of the small test."""
    shapes = ((3, 5), (700,), (2, 2, 2), (1,))
    keys = mx.random.split(mx.random.key(seed), len(shapes))
    return {f"w{i}": {"a": mx.random.normal(s, key=k)} for i, (s, k) in enumerate(zip(shapes, keys, strict=True))}


def raised(work: Any) -> str:
    try:
        work()
    except (ConfigError, StopAsked, PeerLost) as error:
        return str(getattr(error, "code", "stop"))
    return ""


def main(size: int) -> dict[str, Any]:
    rank = int(os.environ["MLX_RANK"])
    session = RankSession(RunDir(Path(mkdtemp())), 1, Mute(rank), is_first=rank == 0)
    group = distributed.join(session, "ring", size)
    seen: dict[str, Any] = {"rank": group.rank, "size": group.size, "first": group.is_first}
    seen["share"] = group.share(SIZES, SIZES)
    seen["total"] = group.total(group.rank + 0.5, 100.0)
    seen["most"] = group.most(group.rank, -group.rank)
    distributed.BUFFER = 512
    mine = dict(sorted(tree(rank).items(), reverse=rank > 0))  # a checkpoint's order is not the model's
    seen["sum"] = {k: v["a"].tolist() for k, v in sorted(group.sum(mine).items())}
    seen["same"] = raised(lambda: group.agree({"model": "x", "data": "y"}))
    seen["different"] = raised(lambda: group.agree({"model": "x", "data": f"y{rank}"}))
    mx.random.seed(7)
    group.own_randomness()
    seen["key"] = random_stream.key().tolist()
    group.check()
    if rank == size - 1:
        session.stopping = StopAsked("signal", Exit.STOPPED)
    seen["before"] = raised(group.check)
    group.total()
    seen["stop"] = raised(group.check)
    if rank == size - 1:  # gone without a word; the others must hear of it
        return seen
    seen["alone"] = raised(lambda: [Group.total(group, 1.0) for _ in range(3)])
    return seen


if __name__ == "__main__":
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    answer = json.dumps(main(int(sys.argv[1])))
    Path(sys.argv[2], os.environ["MLX_RANK"]).write_text(answer)
