"""Many radiographs, in whatever form they come, one after another. No torch is needed."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8
from PIL import Image

from imitate.data.dicom import Dataset, ImageError, is_dicom, read_elements
from imitate.data.files import files_below
from imitate.data.tone import is_flat
from imitate.errors import UserError
from imitate.inference.arrays import Tensor, as_array, split
from imitate.inference.radiograph import File, Radiograph, Source, UnusableImage, name_of, radiograph

log = logging.getLogger(__name__)
Images = Source | Iterable[Source] | Mapping[str, Source]
"""One or many: a ``Source``, which may be a folder or an array of several images; any iterable of these; or a mapping
of names to single images."""
Errors = Literal["raise", "skip"]
REASON = "reason"  # the column that says why an image was skipped
SUFFIXES = (".dcm", ".dicom", ".png", ".jpg", ".jpeg")
MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
PROJECTION_XRAY = ("CR", "DX", "RG")  # DICOM's modalities of radiographs
UNSURE = ("", "OT", "SC")  # modalities of what was converted to DICOM


def find_images(folder: Path | str) -> list[Path]:
    """The radiographs below a folder, sorted: DICOM, PNG and JPEG files by their content.

    DICOM files of modalities other than CR, DX, RG, OT, SC or none (CT, structured reports, ...) are skipped, as are
    hidden files and folders. Damaged files called .dcm, .png or .jpg are listed, so that reading them reports the
    error. UserError: there are none, or it is a prepared folder.
    """
    try:
        return list(_below(Path(folder)))
    except ImageError as error:
        raise UserError(f"cannot use {folder}: {error.reason}") from error


def radiographs(images: object, *, errors: str = "raise", **options: Any) -> Iterator[Radiograph | UnusableImage]:
    """Each image of ``Images`` as it is needed; ``options`` are those of ``radiograph``.

    One without a name of its own is named by its position, from 0. With ``errors="skip"``, an unusable one is yielded
    as its error.
    """
    if errors not in ("raise", "skip"):
        raise UserError(f"errors={errors!r}: choose 'raise' or 'skip'")
    for position, (name, source) in enumerate(_each(images)):
        try:
            if isinstance(source, ImageError):
                raise UnusableImage(name or str(position), source.reason) from source
            read = radiograph(source, **options, name=str(position))
            yield read if name is None else read._replace(name=name)
        except UnusableImage as error:
            named = error if name in (None, error.name) else UnusableImage(str(name), error.reason)
            if errors == "raise":
                raise named from error.__cause__
            yield named


class Reading:
    """Images as they are read, and afterwards what is known of each: its name, and why it could not be used."""

    def __init__(self, images: Iterator[Radiograph | UnusableImage], size: int) -> None:
        self._images, self._size = images, size
        self.names: list[str] = []
        self.reasons: list[str | None] = []
        self.flat = 0  # images with the histogram of an equalised one

    @property
    def usable(self) -> np.ndarray:
        """Positions."""
        return np.flatnonzero([reason is None for reason in self.reasons])

    def batches(self, count: int) -> Iterator[UInt8[np.ndarray, "_ size size"]]:
        """Of usable images; where all are unusable, a black one, for the shape of what is made of it."""
        pixels = self._pixels()
        while batch := list(islice(pixels, count)):
            yield np.stack(batch)
        if self.names and not len(self.usable):
            yield np.zeros((1, self._size, self._size), np.uint8)

    def _pixels(self) -> Iterator[UInt8[np.ndarray, "size size"]]:
        for image in self._images:
            self.names.append(image.name)
            self.reasons.append(image.reason if isinstance(image, UnusableImage) else None)
            if isinstance(image, Radiograph):
                self.flat += is_flat(image.pixels)
                yield image.pixels

    def table(self, found: pd.DataFrame, errors: str) -> pd.DataFrame:
        """What was found of the usable images, with a row for every image; with ``skip``, and the reasons."""
        if errors == "skip":
            if REASON in found:
                raise UserError(f"a column cannot be called {REASON}, since errors='skip' adds one: rename it")
            yes_no = found.select_dtypes(bool).columns
            found = found.astype(dict.fromkeys(yes_no, "boolean")).set_index(self.usable)
            found = found.reindex(range(len(self.names))).assign(**{REASON: pd.Series(self.reasons, dtype=object)})
        return found.set_index(pd.Index(self.names, name="image"))

    def rows(self, found: Float[np.ndarray, "usable width"]) -> Float[np.ndarray, "images width"]:
        """The same of an array: rows of NaN, and a warning, for images that could not be used."""
        for name, reason in zip(self.names, self.reasons, strict=True):
            if reason is not None:
                log.warning("skipped: %s", UnusableImage(name, reason))
        every = np.full((len(self.names), found.shape[1]), np.nan, found.dtype)
        every[self.usable] = found
        return every


def _each(images: object) -> Iterator[tuple[str | None, object]]:
    """Single images, with the names that a mapping gives them; an ImageError in the place of what cannot be taken."""
    if isinstance(images, Mapping):
        yield from ((str(name), source) for name, source in images.items())
    elif _is_one(images):
        try:
            yield from ((None, source) for source in _parts(images))
        except ImageError as error:
            raise UnusableImage(name_of(images) or "images", error.reason) from error
    elif isinstance(images, Iterable):
        for source in images:
            if not _is_one(source):
                yield None, ImageError(f"{type(source).__name__} is no image")
                continue
            try:
                yield from ((None, each) for each in _parts(source))
            except ImageError as error:
                yield name_of(source) or None, error
    else:
        raise UserError(f"{type(images).__name__} is not an image: give paths, folders, arrays, pictures or files")


def _is_one(source: object) -> bool:
    """Whether it is a ``Source`` and not an iterable of them."""
    if isinstance(source, np.ndarray):
        return source.dtype.kind not in "OUT" or source.ndim != 1
    known = (str, os.PathLike, bytes, bytearray, memoryview, File, Tensor, Image.Image, Dataset, Radiograph)
    if isinstance(source, known):
        return True
    if hasattr(source, "__array__"):
        return getattr(source, "ndim", 0) > 1
    return hasattr(source, "__enter__") and not isinstance(source, Iterable)  # what fsspec.open gives


def _parts(source: object) -> Iterable[object]:
    """The images of a folder or of an array of several; all else is one image."""
    if isinstance(source, str | os.PathLike) and "\0" not in str(source) and _asked(Path(source).is_dir):
        return _below(Path(source))
    if isinstance(source, Image.Image | Dataset | Radiograph) or (array := as_array(source)) is None:
        return [source]
    return split(array)


def _below(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise ImageError("no such folder")
    if (folder / "index.json").is_file() and (folder / "shards").is_dir():
        raise ImageError("a prepared folder, which `imitate predict --data` reads")
    names, count = files_below(folder), 0
    for name in names:
        if _is_radiograph(folder / name):
            count += 1
            yield folder / name
    if not count:
        raise ImageError(f"a folder of {len(names)} files without a radiograph among them")
    log.info("%s: %d of %d files are radiographs", folder, count, len(names))


def _is_radiograph(path: Path) -> bool:
    named, head = path.suffix.lower() in SUFFIXES, b""
    if not _asked(path.is_file):
        return named
    try:
        with path.open("rb") as file:
            head = file.read(132)
        if not is_dicom(head):
            return named or head.startswith(MAGIC)
        header = read_elements(path, ("Rows", "Modality")) or {}
    except Exception:  # pydicom raises whatever it likes; reading it says why it cannot be used
        return named or head[128:] == b"DICM"
    if not any(header.values()):
        return named
    return header["Modality"] in PROJECTION_XRAY or (header["Modality"] in UNSURE and bool(header["Rows"]))


def _asked(question: Callable[[], bool]) -> bool:
    """False also of a path that the system does not take."""
    try:
        return question()
    except (OSError, ValueError):
        return False
