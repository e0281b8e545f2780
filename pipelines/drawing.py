"""Where the steps of a pipeline stand in a picture, from left to right: a pure function of names and needs.

Columns are depths. Inside a column the steps stand close to those they hang on, in the definition's order where nothing
else decides; a line that passes a column keeps a lane free there. A line that others imply is left out: what is used by
what stands in the steps themselves, the picture shows what waits for what.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

NODE, SPACE = 64, 24  # height of a step, as in pipelines.css, and between two
LANE = 24  # what a passing line keeps free
SWEEPS = 8
#: Up to so many columns: width of a step, space to the next one.
WIDTHS = ((5, 176, 40), (6, 156, 36), (64, 140, 24))

Needs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Place:
    """A step in its column: the space above it and its centre, in pixels."""

    name: str
    above: float
    x: float
    y: float

    @property
    def top(self) -> float:
        return self.y - NODE / 2


@dataclass(frozen=True, slots=True)
class Line:
    """From one step to another, as the path of an SVG; ``wants``: how the first one must have ended."""

    source: str
    target: str
    wants: str
    path: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """A whole picture."""

    columns: list[list[Place]]
    lines: list[Line]
    node_width: int
    width: int
    height: int

    @property
    def has_branches(self) -> bool:
        """Whether a step waits for another to fail."""
        return any(line.wants == "failed" for line in self.lines)


@dataclass(slots=True)
class _Spot:
    """A step, or the lane of a line in a column that it passes."""

    name: str
    depth: int
    y: float = 0.0
    is_lane: bool = False
    before: list[_Spot] = field(default_factory=list)
    after: list[_Spot] = field(default_factory=list)

    @property
    def height(self) -> int:
        return LANE if self.is_lane else NODE + SPACE


def draw(steps: Mapping[str, Needs]) -> Drawing:
    """The picture of ``steps``: name → (name of an earlier step, how that must have ended); unknown ones count not."""
    depths = depths_of({name: [need for need, _ in needs] for name, needs in steps.items()})
    spots = {name: _Spot(name, depth) for name, depth in depths.items()}
    chains = [(need, name, wants, _chain(spots, need, name)) for name, need, wants in _drawn(steps, depths)]
    columns: list[list[_Spot]] = [[] for _ in range(max(depths.values(), default=0) + 1)]
    for spot in spots.values():
        columns[spot.depth].append(spot)
    for *_, chain in chains:
        for spot in chain[1:-1]:
            columns[spot.depth].append(spot)
    _settle(columns)
    node_width, space = next(
        ((width, gap) for most, width, gap in WIDTHS if len(columns) <= most), (WIDTHS[-1][1], WIDTHS[-1][2])
    )
    top = min((spot.y - spot.height / 2 for column in columns for spot in column), default=0.0)
    bottom = max((spot.y + spot.height / 2 for column in columns for spot in column), default=0.0)
    for column in columns:
        for spot in column:
            spot.y -= top + SPACE / 2
    pitch = node_width + space
    return Drawing(
        [list(_places(column, depth * pitch)) for depth, column in enumerate(columns)],
        [Line(need, name, wants, _path(chain, node_width, pitch)) for need, name, wants, chain in chains],
        node_width,
        len(columns) * pitch - space,
        round(bottom - top) - SPACE,
    )


def depths_of(steps: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """How many steps in a row lie before each one. Steps that wait for each other stand behind all others."""
    depths: dict[str, int] = {}
    left = {name: {need for need in needs if need in steps and need != name} for name, needs in steps.items()}
    while free := [name for name, needs in left.items() if needs <= depths.keys()]:
        for name in free:
            depths[name] = max((depths[need] + 1 for need in left[name]), default=0)
        for name in free:
            del left[name]
    last = max(depths.values(), default=-1) + 1
    return {name: depths.get(name, last) for name in steps}


def _drawn(steps: Mapping[str, Needs], depths: Mapping[str, int]) -> list[tuple[str, str, str]]:
    """(step, step before it, how that must have ended) without what longer ways say already."""
    before: dict[str, set[str]] = {}
    for name in sorted(steps, key=lambda name: depths[name]):
        needs = [need for need, _ in steps[name] if need in depths and depths[need] < depths[name]]
        before[name] = set(needs).union(*(before[need] for need in needs))
    return [
        (name, need, wants)
        for name, needs in steps.items()
        for need, wants in needs
        if need in before.get(name, ())
        and depths[need] < depths[name]
        and not any(need in before[other] for other, _ in needs if other in before and depths[other] < depths[name])
    ]


def _chain(spots: Mapping[str, _Spot], source: str, target: str) -> list[_Spot]:
    """The spots that a line goes through, tied to each other."""
    first, last = spots[source], spots[target]
    chain = [first, *(_Spot("", depth, is_lane=True) for depth in range(first.depth + 1, last.depth)), last]
    for one, other in pairwise(chain):
        one.after.append(other)
        other.before.append(one)
    return chain


def _settle(columns: list[list[_Spot]]) -> None:
    """Give every spot its height: near its neighbours, in a few sweeps from left to right and back."""
    for column in columns:
        _pack(column, [0.0] * len(column))
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        for column in columns if forward else reversed(columns):
            wanted = [_middle(spot.before if forward else spot.after, spot.y) for spot in column]
            order = sorted(range(len(column)), key=lambda n: wanted[n])
            column[:] = [column[n] for n in order]
            _pack(column, [wanted[n] for n in order])


def _middle(spots: Sequence[_Spot], otherwise: float) -> float:
    return sum(spot.y for spot in spots) / len(spots) if spots else otherwise


def _pack(column: Sequence[_Spot], wanted: Sequence[float]) -> None:
    """As near as possible to where each wants to be, without one covering another: neighbours that collide form a
    block, and a block stands where its members want to be on average."""
    blocks: list[tuple[float, float, list[_Spot]]] = []  # centre, height, members
    for spot, want in zip(column, wanted):
        centre, height, members = want, float(spot.height), [spot]
        while blocks and blocks[-1][0] + blocks[-1][1] / 2 > centre - height / 2:
            other, tall, earlier = blocks.pop()
            weight, all_of = len(earlier), len(earlier) + len(members)
            centre = (weight * (other + height / 2) + (all_of - weight) * (centre - tall / 2)) / all_of
            height, members = height + tall, earlier + members
        blocks.append((centre, height, members))
    for centre, height, members in blocks:
        at = centre - height / 2
        for spot in members:
            spot.y = at + spot.height / 2
            at += spot.height


def _places(column: Sequence[_Spot], x: int) -> Iterable[Place]:
    end = 0.0
    for spot in column:
        if not spot.is_lane:
            top = spot.y - NODE / 2
            yield Place(spot.name, round(top - end, 1), x, round(spot.y, 1))
            end = top + NODE


def _path(chain: Sequence[_Spot], node_width: int, pitch: int) -> str:
    """From the right side of the first to the left side of the last, bending only between columns."""
    space = pitch - node_width
    y = round(chain[0].y, 1)
    words = [f"M{chain[0].depth * pitch + node_width} {y:g}"]
    for spot in chain[1:]:
        x, to = spot.depth * pitch, round(spot.y, 1)
        words.append(f"C{x - space / 2:g} {y:g} {x - space / 2:g} {to:g} {x} {to:g}" if to != y else f"L{x} {to:g}")
        if spot.is_lane:
            words.append(f"L{x + node_width} {to:g}")
        y = to
    return "".join(words)
