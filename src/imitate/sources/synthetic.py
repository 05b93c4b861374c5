"""Synthetic radiographs straight into a prepared folder: labels, boxes, masks and reports of one drawing.

The images are written to ``raw`` as PNG files, or to a temporary folder that is gone when the program ends. The mask is
the union of the findings within the lungs; boxes are tight around every finding. Lateral views are among the images.
"""

import atexit
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from imitate.data.prepared import Dropped, Record
from imitate.errors import UserError
from imitate.sources import Dataset, SourceOptions
from imitate.synthetic.cases import CLASSES, TRAITS, draw_case
from imitate.synthetic.files import save_picture
from imitate.synthetic.phantom import boxes, render
from imitate.synthetic.wording import compose

SIZE = 256  # px


def records(options: SourceOptions) -> Iterator[Record | Dropped]:
    if options.n < 1:
        raise UserError(f"{options.n} synthetic images: give --n 1 or more")
    folder = _folder(options.raw)
    for index in range(options.n):
        yield _record(options.seed, index, folder)


def lung_mask(width: int, height: int, *, seed: int, index: int) -> np.ndarray:
    """The union of the findings within the lungs, drawn once more."""
    masks = [
        region.mask
        for region in render(draw_case(seed, index), height, width).regions
        if TRAITS[region.finding.name].in_lung
    ]
    return np.any([np.zeros((height, width), bool), *masks], axis=0)


def _folder(raw: Path) -> Path:
    if raw != Path():
        return raw
    temporary = TemporaryDirectory(prefix="imitate-synthetic-")  # the writer's processes read it after the last record
    atexit.register(temporary.cleanup)
    return Path(temporary.name)


def _record(seed: int, index: int, folder: Path) -> Record:
    case = draw_case(seed, index)
    image_id = f"synthetic-{seed}-{index:06d}"
    phantom, report = render(case, SIZE), compose(case)
    save_picture(folder / f"{image_id}.png", phantom.image)
    return Record(
        image_id=image_id,
        image=folder / f"{image_id}.png",
        patient=f"p{case.patient}",
        study=f"p{case.patient}-s{case.study}",
        split=case.split,
        view=case.view,
        findings=report.findings,
        impression=report.impression,
        labels=case.labels,
        boxes=boxes(phantom.regions),
        mask=partial(lung_mask, seed=seed, index=index),
    )


DATASET = Dataset(records, CLASSES)
