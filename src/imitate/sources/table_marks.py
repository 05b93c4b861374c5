"""Boxes and masks of a user's own data: columns of the table, or of a second one with a row for each mark."""

from __future__ import annotations

import logging
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import Field, model_validator

from imitate.config import Config
from imitate.data.annotations import Annotation, Box, RunLengths, box_fault, encode_runs
from imitate.data.lazy import np, pd
from imitate.data.tables import decimals, read_table
from imitate.data.words import is_nothing
from imitate.errors import UserError

log = logging.getLogger(__name__)
BAD_MASK = "missing or unreadable mask"
AROUND = 0.1  # of the brightest value: how far values of compressed masks are from 0 and from it
CLASS = 0.02  # of the pixels inside, in areas of one value in between: another class
Names = tuple[str, str, str, str]


class MarkColumns(Config):
    """None of these is looked for unless it is given."""

    boxes: Path | None = Field(None, description="table of boxes or masks, one in each row; default: the table itself")
    box: Names | None = Field(None, description="columns of a box: left, top, width, height, in pixels")
    corners: Names | None = Field(None, description="columns of a box: left, top, right, bottom, in pixels")
    frame: tuple[int, int] | None = Field(
        None, description="width and height to which coordinates refer; 1 1 for fractions; default: each image's own"
    )
    mask: str | None = Field(None, description="column of mask files, whose bright pixels are inside")
    mark_label: str | None = Field(None, description="column of the class of a box or mask")
    phrase: str | None = Field(None, description="column of a phrase that describes a box or mask")
    reader: str | None = Field(None, description="column of the reader")

    @model_validator(mode="after")
    def _is_possible(self) -> MarkColumns:
        if self.box and self.corners:
            raise ValueError("give box or corners, not both")
        needs = ("boxes", "frame", "mark_label", "phrase", "reader")
        if not (self.box or self.corners or self.mask) and (given := [name for name in needs if getattr(self, name)]):
            raise ValueError(f"{given[0]}: also name the columns of box, corners or mask")
        if self.frame and min(self.frame) < 1:
            raise ValueError(f"frame {self.frame}: give a width and a height of 1 or more")
        return self

    @property
    def marked(self) -> bool:
        return bool(self.box or self.corners or self.mask)


class Marks(NamedTuple):
    """What is marked on each image, by its name in the table; of whom a mask cannot be read."""

    of: Mapping[str, tuple[Annotation, ...]]  # also of images that were read and have none
    unreadable: frozenset[str]
    several: bool  # whether an image has a row for each mark in the main table


def image_key(name: str) -> str:
    """The name of an image as it is compared."""
    return unicodedata.normalize("NFC", name.strip().replace("\\", "/"))


def read_marks(
    columns: MarkColumns, path: Path, image_path: str, *, sheet: str | None, find: Callable[[str], Path | None]
) -> Marks | None:
    """None where no columns are named. ``find`` gives the file of a mask, None outside the archive.

    A row whose coordinates and mask are blank says that its image was read and nothing was found.
    """
    if not columns.marked:
        return None
    file = columns.boxes or path
    places = columns.box or columns.corners or ()
    words = [name for name in (columns.mark_label, columns.phrase, columns.reader) if name]
    needed = [image_path, *places, *([columns.mask] if columns.mask else []), *words]
    table = read_table(file, needed, optional=(), text=True, sheet=None if columns.boxes else sheet)
    boxes, faults = _boxes(table, columns, file), Counter[str]()
    found: dict[str, list[Annotation]] = {}
    unreadable = set()
    for row, values in enumerate(table.to_dict("records")):
        name = values[image_path]
        if not isinstance(name, str) or is_nothing(name):
            faults["no image path"] += 1
            continue
        marks = found.setdefault(image_key(name), [])
        given = {field: _word(values, getattr(columns, field)) for field in ("mark_label", "phrase", "reader")}
        if boxes is not None and not np.isnan(boxes[row]).all():
            x, y, width, height = map(float, boxes[row])
            box = Box(
                given["mark_label"],
                x,
                y,
                width,
                height,
                phrase=given["phrase"],
                reader=given["reader"],
                reference_size=columns.frame,
            )
            fault = box_fault(box, frame=columns.frame)
            if fault:
                faults[fault] += 1
            else:
                marks.append(box)
        if columns.mask and (mask := _word(values, columns.mask)):
            runs = _runs(find(mask))
            if runs is None:
                unreadable.add(image_key(name))
            else:
                marks.append(RunLengths(given["mark_label"], *runs, phrase=given["phrase"], reader=given["reader"]))
    for fault, count in faults.items():
        log.warning("%s: %d rows are not used: %s", file.name, count, fault)
    if columns.mask:  # without a mask nothing is inside, even where there is a box
        for marks in found.values():
            if not any(isinstance(each, RunLengths) for each in marks):
                marks.append(RunLengths("", "", (1, 1)))
    every = {name: tuple(marks) for name, marks in found.items()}
    return Marks(every, frozenset(unreadable), columns.boxes is None)


def warn_of_strangers(marks: Marks, names: set[str], columns: MarkColumns) -> None:
    """Marks of images that the table does not have."""
    strangers = sorted(marks.of.keys() - names)
    if strangers and columns.boxes:
        said = "%s: %d images are not in the table, the first %r: their marks are not used"
        log.warning(said, columns.boxes.name, len(strangers), strangers[0])


def _boxes(table: pd.DataFrame, columns: MarkColumns, path: Path) -> np.ndarray | None:
    """(rows, 4): left, top, width, height; NaN where there is no box. UserError: a part of one is missing."""
    places = columns.box or columns.corners
    if places is None:
        return None
    values = np.stack([decimals(table[name], path=path).to_numpy(np.float64) for name in places], axis=1)
    blank = np.isnan(values)
    if (torn := blank.any(1) & ~blank.all(1)).any():
        row = int(torn.argmax())
        raise UserError(f"{path}, row {row + 1}: column {places[int(blank[row].argmax())]!r} is blank, others are not")
    known = values[~blank.any(1)]
    if columns.frame is None and len(known) and (np.abs(known) <= 1).all():
        raise UserError(f"{path}: all coordinates are within 0 and 1: if these are fractions, give --frame 1 1")
    if columns.corners:
        values[:, 2:] -= values[:, :2]
    return values


def _word(values: Mapping[Hashable, object], column: str | None) -> str:
    value = values[column] if column else ""
    return value.strip() if isinstance(value, str) and not is_nothing(value) else ""


def _runs(path: Path | None) -> tuple[str, tuple[int, int]] | None:
    """Run lengths of a mask, and its width and height; None where it cannot be read. UserError: it has several classes.

    Smooth edges and JPEG give many values, of which none but the two of the mask fill an area.
    """
    from imitate.data.dicom import ImageError
    from imitate.data.pixels import read_gray

    if path is None:
        return None
    try:
        gray = read_gray(path)
    except ImageError:
        return None
    flat = (gray[1:, 1:] == gray[:-1, 1:]) & (gray[1:, 1:] == gray[1:, :-1]) & (gray[1:, 1:] == gray[:-1, :-1])
    values, counts = np.unique(gray[1:, 1:][flat], return_counts=True)
    inside = (values > AROUND * gray.max()) & (counts > CLASS * max(1, (gray > AROUND * gray.max()).sum()))
    if values[inside].size and float(values[inside].min()) < (1 - AROUND) * float(gray.max()):
        found = ", ".join(f"{value:g}" for value in values[inside])
        raise UserError(
            f"mask {path} has areas of the values {found} beside 0: are these classes? Write a file for each class, "
            "with 0 outside and one value inside"
        )
    return encode_runs(gray > gray.max() / 2), (gray.shape[1], gray.shape[0])
