"""What a worker process does with a record: decode, crop and resize; bring boxes and masks along."""

import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import UInt8

from imitate.data.annotations import Annotation, Box, draw_mask
from imitate.data.dicom import MAX_INFLATED, Gray, ImageError
from imitate.data.jobs import Decoded, Job, Setup
from imitate.data.pixels import Geometry, read_gray, to_prepared
from imitate.data.worker import Failure

OPEN_ARCHIVES = 8  # of a worker


class Decoder:
    """Called once per worker process with the setup, then with each job."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.archives: OrderedDict[Path, zipfile.ZipFile] = OrderedDict()

    def __call__(self, job: Job) -> Decoded | Failure:
        try:
            gray = as_shown(self._read(job), invert=bool(job.invert), window=job.window)
            image, geometry = to_prepared(gray, self.setup.size, self.setup.resize)
            mask = mask_of(job.annotations, geometry) if self.setup.masks else None
        except ImageError as error:
            return Failure(error.reason)
        given = [each for each in job.annotations if isinstance(each, Box)]
        boxes = [(box, geometry.box(box)) for box in given]
        rows = [_box_row(box, placed) for box, placed in boxes if placed]
        return Decoded(image, mask, rows, len(given) - len(rows))

    def _read(self, job: Job) -> Gray:
        if not job.member:
            return read_gray(job.image)
        return read_gray(cast(BufferedIOBase, BytesIO(self._member(job.image, job.member))))

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


def as_shown(gray: Gray, *, invert: bool, window: tuple[float, float] | None) -> Gray:
    """Apply what a source knows from outside the file: a window (center, width) of the stored values, an inversion."""
    if window is not None:
        if gray.dtype.kind == "f":
            raise ImageError("a window from outside for a DICOM file")  # which read_gray has shown already
        center, width = window
        if not width > 0:
            raise ImageError("a window without width")
        gray = np.clip((gray.astype(np.float32) - center) / np.float32(width) + np.float32(0.5), 0, 1)
    return gray.max() - gray if invert else gray


def mask_of(annotations: Sequence[Annotation], geometry: Geometry) -> UInt8[np.ndarray, "size size"]:
    if not annotations:
        return np.zeros((geometry.size, geometry.size), np.uint8)
    try:
        return geometry.mask(draw_mask(annotations, geometry.width, geometry.height))
    except ValueError as error:  # run lengths
        raise ImageError(str(error)) from error


def _box_row(given: Box, placed: Box) -> dict[str, Any]:
    names = ("label", "x", "y", "width", "height")
    row = {name: getattr(placed, name) for name in names}
    return row | {"phrase": given.phrase, "reader": given.reader}
