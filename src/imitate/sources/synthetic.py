"""Synthetic radiographs straight into a prepared folder: labels, boxes, masks and reports of one drawing.

The images are written to ``raw`` as PNG files, or to a temporary folder that is gone when the program ends. The mask is
the union of the findings within the lungs; boxes are tight around every finding, and have its sentence in the report
as their phrase. Laterals are among the images.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pydantic import Field

from imitate.config import Config
from imitate.data.annotations import RunLengths, encode_runs
from imitate.data.lazy import np
from imitate.data.records import Excluded, Record
from imitate.errors import UserError
from imitate.names import Language
from imitate.sources import Source, Traits
from imitate.synthetic.cases import CLASSES, SMALLEST, TRAITS, Hospital, draw_case

if TYPE_CHECKING:
    from imitate.synthetic.lesions import Region


FEW = 100
"""Images that are rendered before a second process would have started."""
TIME_LIMIT = 600.0  # seconds for one image


class SyntheticOptions(Config):
    n: int = Field(200, description="number of images")
    seed: int = Field(0, description="seed of the patients")
    original_size: int = Field(256, ge=SMALLEST, description="side of the PNG files, in pixels")
    female_contrast: float | None = Field(
        None, gt=0, le=1, description="contrast of the findings of female patients, as a fraction of the usual one"
    )
    language: Language | None = Field(None, description="language of the reports: en (the default), de or es")
    hospital: Hospital | None = Field(
        None, description="north (the default), or south, with other equipment and other words for the same findings"
    )
    raw: Path | None = Field(None, description="where the PNG files are kept; by default they are temporary")


def records(options: SyntheticOptions) -> Iterator[Record | Excluded]:
    if options.n < 1:
        raise UserError(f"{options.n} synthetic images: give --n 1 or more")
    from imitate.data.pool import Pool
    from imitate.data.writer import cores

    folder = options.raw or _temporary()
    workers = min(cores(), options.n // FEW)
    if workers < 2:
        yield from map(drawing((options, folder)), range(options.n))
        return
    with Pool(f"{__name__}:drawing", setup=(options, folder), workers=workers, time_limit=TIME_LIMIT) as pool:
        for _, found in pool.map(
            (None, range(start, min(start + FEW, options.n))) for start in range(0, options.n, FEW)
        ):
            yield from found


def drawing(setup: tuple[SyntheticOptions, Path]) -> Callable[[int], Record]:
    """Draws the image of an index; a processor draws about 80 in a second."""
    options, folder = setup
    return lambda index: _record(options, index, folder)


def _temporary() -> Path:
    folder = TemporaryDirectory(prefix="imitate-synthetic-")  # the writer's processes read it after the last record
    atexit.register(folder.cleanup)
    return Path(folder.name)


def _record(options: SyntheticOptions, index: int, folder: Path) -> Record:
    from imitate.synthetic.files import save_picture
    from imitate.synthetic.phantom import boxes, render
    from imitate.synthetic.wording import compose

    case, size = draw_case(options.seed, index), options.original_size
    image_id = f"synthetic-{options.seed}-{index:06d}"
    contrast, language = options.female_contrast if case.sex == "F" else None, options.language or "en"
    hospital = options.hospital or "north"
    phantom, report = render(case, size, contrast=contrast, hospital=hospital), compose(case, language, hospital)
    save_picture(folder / f"{image_id}.png", phantom.image)
    return Record(
        image_id=image_id,
        image=folder / f"{image_id}.png",
        patient=f"p{case.patient}",
        study=f"p{case.patient}-s{case.study}",
        split=case.split,
        projection=case.view,
        findings=report.findings,
        impression=report.impression,
        language=language,
        labels=case.labels,
        annotations=(*boxes(phantom.regions, report.sentences), _lung_mask(phantom.regions, size)),
        annotated=True,
        sex=case.sex,
        age=case.age,
    )


def _lung_mask(regions: list[Region], size: int) -> RunLengths:
    """The union of the findings within the lungs; also where it is empty, since boxes alone would become the mask."""
    masks = [region.mask for region in regions if TRAITS[region.finding.name].in_lung]
    union = np.any([np.zeros((size, size), bool), *masks], axis=0)
    return RunLengths("", encode_runs(union), (size, size))


SOURCE = Source(records, SyntheticOptions, CLASSES, traits=Traits(masks=True))
