"""What a worker process does with a record: decode, crop and resize; bring boxes and masks along."""

import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from imitate.data.annotations import Annotation, Box, draw_mask, encode_runs
from imitate.data.dicom import MAX_INFLATED, Gray, ImageError, read_elements
from imitate.data.jobs import Decoded, Job, Setup
from imitate.data.pixels import Geometry, read_noted, to_prepared
from imitate.data.worker import Failure

OPEN_ARCHIVES = 8  # of a worker
UNLIKE = "annotations of an image of another shape"
MAX_SKEW = 0.02  # by which two aspect ratios may differ
FRACTIONS = (1, 1)  # reference size of annotations that are fractions of any image


class Decoder:
    """Called once per worker process with the setup, then with each job."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.archives: OrderedDict[Path, zipfile.ZipFile] = OrderedDict()

    def __call__(self, job: Job) -> Decoded | Failure:
        try:
            gray, notes = self.read(job)
            setup, wanted = self.setup, self.setup.from_header
            image, geometry = to_prepared(
                gray, setup.size, setup.resize, percentiles=setup.percentiles, equalized=setup.equalized
            )
            mask = mask_of(job.annotations, geometry) if setup.masks else None
            regions = _regions(job.annotations, geometry)
            header = read_elements(self._source(job), wanted) if wanted else None
        except ImageError as error:
            return Failure(error.reason)
        notes = (*notes, UNLIKE) if _unlike(job.annotations, geometry) else notes
        given = [each for each in job.annotations if isinstance(each, Box)]
        boxes = [(box, geometry.box(box)) for box in given]
        rows = [_box_row(box, placed) for box, placed in boxes if placed]
        return Decoded(image, mask, rows, regions, len(given) - len(rows), notes, header)

    def read(self, job: Job) -> tuple[Gray, tuple[str, ...]]:
        """The gray values of a job's image, and notes; ImageError where it has none."""
        windowed = not self.setup.equalized
        return read_noted(self._source(job), invert=job.invert, window=job.window, windowed=windowed)

    def _source(self, job: Job) -> Path | bytes:
        return self._member(job.image, job.member) if job.member else job.image

    def _member(self, path: Path, name: str) -> bytes:
        try:
            if path not in self.archives:
                self.archives[path] = zipfile.ZipFile(path)
                if len(self.archives) > OPEN_ARCHIVES:
                    self.archives.popitem(last=False)[1].close()
            found = self.archives[path].getinfo(name)
            if found.file_size > MAX_INFLATED:
                raise ImageError("too many pixels")
            return self.archives[path].read(found)
        except (FileNotFoundError, KeyError) as error:
            raise ImageError("missing file") from error
        except PermissionError as error:
            raise ImageError("file without read permission") from error
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise ImageError("damaged, encrypted or unsupported archive") from error


def mask_of(annotations: Sequence[Annotation], geometry: Geometry) -> UInt8[np.ndarray, "size size"]:
    if not annotations:
        return np.zeros((geometry.size, geometry.size), np.uint8)
    try:
        return geometry.mask(draw_mask(annotations, geometry.width, geometry.height))
    except ValueError as error:  # run lengths
        raise ImageError(str(error)) from error


def _unlike(annotations: Sequence[Annotation], geometry: Geometry) -> bool:
    """Whether the annotations count in another shape than this image has: it was cropped, or is another one."""
    sizes = {each.reference_size for each in annotations} - {None, FRACTIONS}
    shapes = [(size[0] * geometry.height, size[1] * geometry.width) for size in sizes if size is not None]
    return any(abs(wide - high) > MAX_SKEW * max(wide, high) for wide, high in shapes)


def _regions(annotations: Sequence[Annotation], geometry: Geometry) -> list[dict[str, Any]]:
    """Each mask that has a label or a phrase; none of which nothing is in the square."""
    found = []
    for each in annotations:
        if not isinstance(each, Box) and (each.label or each.phrase) and (mask := mask_of([each], geometry)).any():
            words = {name: getattr(each, name) for name in ("label", "phrase", "reader")}
            found.append({**words, "runs": encode_runs(mask > 0)})
    return found


def _box_row(given: Box, placed: Box) -> dict[str, Any]:
    names = ("label", "x", "y", "width", "height")
    row = {name: getattr(placed, name) for name in names}
    return row | {"phrase": given.phrase, "reader": given.reader}
