"""Where to write the names of points so that they hide neither each other nor the points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LINE = 15.0  # height of a line of text, pixels
_CHARACTER = 6.6  # width of an average character at 12 px
_GAP = 12.0  # between a point's middle and its name
_ROUNDS = (1.0, 2.2, 3.6, 5.0)  # how far off a name may go, in gaps


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """The area both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)

    @property
    def area(self) -> float:
        return (self.right - self.left) * (self.bottom - self.top)


def place(
    points: Sequence[tuple[float, float]], names: Sequence[str], obstacles: Sequence[Box], frame: Box
) -> list[Box]:
    """A box for each name, near its point and inside the frame where that can be; greedy, crowded points first."""
    marks = [Box(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    placed: dict[int, Box] = {}
    for index in sorted(range(len(points)), key=lambda i: -_crowding(points, i)):
        taken = [*marks, *placed.values()]
        thin = [box for box in obstacles if not box.overlap(marks[index])]

        def badness(candidate: tuple[float, Box], taken: Sequence[Box] = taken, thin: Sequence[Box] = thin) -> float:
            distance, box = candidate
            hidden = sum(box.overlap(other) for other in taken) + 0.5 * sum(box.overlap(other) for other in thin)
            outside = box.area - box.overlap(frame)
            return 5 * outside + hidden + 3 * distance

        placed[index] = min(_candidates(points[index], names[index]), key=badness)[1]
    return [placed[index] for index in range(len(points))]


def _crowding(points: Sequence[tuple[float, float]], index: int) -> float:
    x, y = points[index]
    return sum(1 / (10 + abs(a - x) / 4 + abs(b - y)) for a, b in points)


def _candidates(point: tuple[float, float], name: str) -> list[tuple[float, Box]]:
    """(distance in gaps, box) to the right, left, above, below and across, ever farther off."""
    x, y = point
    width = _CHARACTER * len(name)
    found = []
    for far in _ROUNDS:
        gap = _GAP * far
        for left, middle in (
            (x + _GAP, y),
            (x - _GAP - width, y),
            (x + _GAP, y - gap),
            (x + _GAP, y + gap),
            (x - _GAP - width, y - gap),
            (x - _GAP - width, y + gap),
            (x - width / 2, y - gap - LINE / 2),
            (x - width / 2, y + gap + LINE / 2),
        ):
            found.append((far, Box(left, middle - LINE / 2, left + width, middle + LINE / 2)))
    return found
