"""Files as the sources ship them; the same content gives the same bytes."""

import gzip
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from imitate.errors import UserError
from imitate.synthetic.cases import SMALLEST, Case

FEWEST = 20
Row = dict[str, Any]


def begin(out: Path, *, n: int, size: int) -> None:
    """Make the folder of a layout; UserError where it holds something, or where a split would come out empty."""
    if n < FEWEST:
        raise UserError(f"{n} images are too few for splits by patient: give --n {FEWEST} or more")
    if size < SMALLEST:
        raise UserError(f"findings vanish in images of {size} px: give --size {SMALLEST} or more")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not an empty folder: give --out a new one")
    out.mkdir(parents=True, exist_ok=True)


def save_picture(path: Path, pixels: np.ndarray) -> None:
    """PNG or JPEG by the name's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=1, quality=95)


def save_dicom(path: Path, pixels: np.ndarray, case: Case, *, uids: Sequence[str]) -> None:
    """8 bit, uncompressed, MONOCHROME2. ``uids`` are those of study, series and image."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = UID(uids[2])
    data = Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID = uids[:2]
    data.Modality, data.BodyPartExamined, data.ViewPosition = "CR", "CHEST", case.view
    data.PatientID, data.PatientSex, data.PatientAge = path.stem, case.sex, f"{case.age:03d}Y"
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.PixelSpacing = [f"{360 / pixels.shape[0]:.4f}"] * 2
    data.PixelData = pixels.tobytes() + b"\0" * (pixels.size % 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


def save_table(path: Path, rows: Sequence[Row], columns: Sequence[str] | None = None) -> None:
    """CSV, gzipped where the name ends in .gz; None and NaN are blank."""
    table = pd.DataFrame(rows, columns=None if columns is None else list(columns))
    text = table.to_csv(index=False, lineterminator="\n").encode()
    path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)


def save_zip(path: Path, texts: Mapping[str, str]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
