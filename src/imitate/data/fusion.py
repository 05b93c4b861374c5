"""Boxes of several readers as one: those that overlap become their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from imitate.data.annotations import Box

OVERLAP = 0.5  # IoU with the mean of those before, above which a box joins them

Corners = tuple[float, float, float, float]


@dataclass
class _Group:
    members: list[Corners]

    @property
    def mean(self) -> Corners:
        left, top, right, bottom = (sum(edges) / len(edges) for edges in zip(*self.members, strict=True))
        return left, top, right, bottom


def fuse(boxes: Sequence[Box], *, overlap: float = OVERLAP) -> tuple[Box, ...]:
    """The boxes of one class: each joins the group that it overlaps most, in the order given; a group is one box.

    The fused box has no reader. Boxes of one reader that overlap are fused as well.
    """
    groups: list[_Group] = []
    for box in boxes:
        corners = (box.x, box.y, box.x + box.width, box.y + box.height)
        best = max(groups, key=lambda group: _iou(group.mean, corners), default=None)
        if best is not None and _iou(best.mean, corners) > overlap:
            best.members.append(corners)
        else:
            groups.append(_Group([corners]))
    fused = []
    for left, top, right, bottom in (group.mean for group in groups):
        fused.append(Box(boxes[0].label, left, top, right - left, bottom - top))
    return tuple(fused)


def _iou(one: Corners, other: Corners) -> float:
    across, down = (min(one[axis + 2], other[axis + 2]) - max(one[axis], other[axis]) for axis in (0, 1))
    both = max(across, 0.0) * max(down, 0.0)
    areas = sum((each[2] - each[0]) * (each[3] - each[1]) for each in (one, other))
    return both / (areas - both) if areas > both else 0.0
