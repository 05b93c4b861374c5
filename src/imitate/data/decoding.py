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
from imitate.data.dicom import MAX_INFLATED, Gray, ImageError
from imitate.data.jobs import Decoded, Job, Setup
from imitate.data.pixels import Geometry, read_noted, to_prepared
from imitate.data.worker import Failure

OPEN_ARCHIVES = 8  # of a worker


class Decoder:
    """Called once per worker process with the setup, then with each job."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.archives: OrderedDict[Path, zipfile.ZipFile] = OrderedDict()

    def __call__(self, job: Job) -> Decoded | Failure:
        try:
            gray, notes = self.read(job)
            setup = self.setup
            image, geometry = to_prepared(
                gray, setup.size, setup.resize, percentiles=setup.percentiles, equalized=setup.equalized
            )
            mask = mask_of(job.annotations, geometry) if setup.masks else None
            regions = _regions(job.annotations, geometry)
        except ImageError as error:
            return Failure(error.reason)
        given = [each for each in job.annotations if isinstance(each, Box)]
        boxes = [(box, geometry.box(box)) for box in given]
        rows = [_box_row(box, placed) for box, placed in boxes if placed]
        return Decoded(image, mask, rows, regions, len(given) - len(rows), notes)

    def read(self, job: Job) -> tuple[Gray, tuple[str, ...]]:
        """The gray values of a job's image, and notes; ImageError where it has none."""
        source = self._member(job.image, job.member) if job.member else job.image
        return read_noted(source, invert=job.invert, window=job.window, windowed=not self.setup.equalized)

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
