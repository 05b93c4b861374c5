"""Builds tests/data/golden_dicom: small radiographs with the habits of vendors, and how they look to dcmtk and gdcm.

``python tests/support/golden_dicom.py`` writes the files and expected.npz anew; it needs dcmtk and libgdcm-tools. What
``Case.reference`` holds, by default the file itself, is decompressed by dcmtk or gdcm and displayed by dcm2pnm. For a
file with a wrong header, it holds the same image with the right one.
"""

import io
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
)

FOLDER = Path(__file__).parents[1] / "data" / "golden_dicom"
TOOLS = ("dcm2pnm", "dcmj2pnm", "dcmdjpls", "dcmcjpls", "dcmdrle", "dcmcrle", "gdcmconv")
DECOMPRESS = {"j2k": "gdcmconv --raw", "jpegls": "dcmdjpls", "rle": "dcmdrle"}


def chest() -> np.ndarray:
    """48 x 40 values between 200 and 3,700, smooth but for a texture, without a random generator."""
    down, across = np.mgrid[0:48, 0:40].astype(float)
    body = 1 / (1 + np.exp(np.abs(across - 19.5) - 16))
    lungs = sum(np.exp(-(((across - middle) / 5) ** 2) - ((down - 22) / 13) ** 2) for middle in (11, 28))
    texture = (down * 37 + across * 23 + down * across * 11) % 29
    return (200 + 3200 * body - 1700 * lungs * body + 10 * texture).round().astype(np.uint16)


CHEST = chest()


def dicom(pixels: np.ndarray | bytes, syntax: Any = ExplicitVRLittleEndian, **tags: Any) -> bytes:
    """A DX file; a tag of None is absent. ``bytes`` are one compressed stream, of an image of the chest's size."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3"
    data.Modality, data.PatientName = "DX", "Nobody^Here"
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.Rows, data.Columns = CHEST.shape if isinstance(pixels, bytes) else pixels.shape[:2]
    data.BitsAllocated = 8 if isinstance(pixels, bytes) else 8 * pixels.itemsize
    data.BitsStored = min(12, data.BitsAllocated)
    data.PixelData = encapsulate([pixels]) if isinstance(pixels, bytes) else pixels.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    if "HighBit" not in tags:
        data.HighBit = data.BitsStored - 1 if data.BitsStored else None
    data["PixelData"].VR = "OW" if data.BitsAllocated == 16 and not isinstance(pixels, bytes) else "OB"
    for name in [element.keyword for element in data if element.value is None]:
        delattr(data, name)
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


def table(values: np.ndarray, first: int, depth: int, *, packed: bool = False, signed: bool = False) -> list[Dataset]:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if signed else "US", [len(values), first, depth])
    item.ModalityLUTType = "US"
    kind = np.uint8 if packed else "<u2"
    item.add_new("LUTData", "OW", values.astype(kind).tobytes())
    return [item]


def curve(entries: int, depth: int) -> np.ndarray:
    """A rising S, as of a film."""
    steps = np.linspace(-4, 4, entries)
    return ((2**depth - 1) / (1 + np.exp(-steps))).round()


def jpeg(pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=100, **options)
    return file.getvalue()


def run(command: str, content: bytes) -> bytes:
    """What a tool makes of a file."""
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "before"), Path(folder, "after")
        before.write_bytes(content)
        subprocess.run([*command.split(), before, after], check=True, capture_output=True, timeout=60)
        return after.read_bytes()


def compressed(content: bytes, syntax: str = JPEG2000Lossless, **tags: Any) -> bytes:
    from pydicom import dcmread

    data = dcmread(io.BytesIO(content))
    data.compress(syntax, generate_instance_uid=False)
    for name, value in tags.items():
        setattr(data, name, value)
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


class Case(NamedTuple):
    build: Callable[[], bytes]
    show: str = "-W"  # how dcm2pnm displays it
    reference: Callable[[], bytes] | None = None
    compression: str = ""  # of the reference


MARKS = np.where(np.indices(CHEST.shape).sum(0) % 7 == 0, 1, 0).astype(np.uint16) << 14
WINDOW: dict[str, Any] = {"WindowCenter": 1900, "WindowWidth": 2400}
RESCALE = {"RescaleSlope": 1, "RescaleIntercept": 2000}
SIGNED = CHEST.astype(np.int16) - 2000
BYTES = (CHEST >> 4).astype(np.uint8)
PADDED = np.where(np.indices(CHEST.shape)[1] < 5, 4095, CHEST).astype(np.uint16)
DEAD = np.where(np.indices(CHEST.shape).sum(0) == 9, 0, CHEST.astype(np.uint32) * 6 + 12000).astype(np.uint16)
DEPTH_16 = (CHEST * 17).astype(np.uint16)


def with_overlay(pixels: np.ndarray) -> bytes:
    """An overlay in bit 14, as its group 6000 declares."""
    from pydicom import dcmread

    data = dcmread(io.BytesIO(dicom(pixels)))
    for element, kind, value in ((0x10, "US", 48), (0x11, "US", 40), (0x40, "CS", "G"), (0x50, "SS", [1, 1])):
        data.add_new((0x6000, element), kind, value)
    data.add_new((0x6000, 0x100), "US", 16)
    data.add_new((0x6000, 0x102), "US", 14)
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


CASES = {
    "voi_lut_8_packed": Case(lambda: dicom(CHEST, VOILUTSequence=table(curve(3000, 8), 500, 8, packed=True)), "+Wl 1"),
    "voi_lut_12": Case(lambda: dicom(CHEST, VOILUTSequence=table(curve(4096, 12), 0, 12)), "+Wl 1"),
    "voi_lut_16": Case(lambda: dicom(CHEST, VOILUTSequence=table(curve(3500, 16), 300, 16)), "+Wl 1"),
    "monochrome1_padding": Case(
        lambda: dicom(PADDED, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=4095, **WINDOW), "+Wi 1"
    ),
    "modality_lut_offset": Case(lambda: dicom(CHEST, ModalityLUTSequence=table(curve(2800, 12), 900, 12))),
    "modality_lut_negative": Case(
        lambda: dicom(SIGNED, PixelRepresentation=1, ModalityLUTSequence=table(curve(2048, 12), -1000, 12, signed=True))
    ),
    "two_windows": Case(lambda: dicom(CHEST, WindowCenter=[1700, 300], WindowWidth=[2000, 50]), "+Wi 1"),
    "sigmoid": Case(lambda: dicom(CHEST, VOILUTFunction="SIGMOID", **WINDOW), "+Wfs +Wi 1"),
    "window_misses": Case(lambda: dicom(DEAD, BitsStored=16, WindowCenter=3174, WindowWidth=2426)),
    "window_misses_border": Case(lambda: dicom(PADDED, WindowCenter=6000, WindowWidth=3820)),
    "overlay_bit_14": Case(lambda: with_overlay(CHEST | MARKS), "-O -W"),
    "overlay_bit_14_j2k": Case(
        lambda: compressed(dicom(CHEST | MARKS, BitsStored=16), BitsStored=12, HighBit=11),
        reference=lambda: dicom(CHEST | MARKS),  # gdcm takes BitsStored from the stream
    ),
    "jpeg2000_12": Case(lambda: run("gdcmconv --j2k", dicom(CHEST)), compression="j2k"),
    "jpeg2000_16": Case(lambda: run("gdcmconv --j2k", dicom(DEPTH_16, BitsStored=16)), compression="j2k"),
    "jpegls_12": Case(lambda: run("dcmcjpls", dicom(CHEST, **WINDOW)), "+Wi 1", None, "jpegls"),
    "jpegls_16": Case(lambda: run("dcmcjpls", dicom(DEPTH_16, BitsStored=16)), compression="jpegls"),
    "rle_12": Case(lambda: run("dcmcrle", dicom(CHEST)), compression="rle"),
    "bits_stored_10": Case(lambda: dicom(CHEST, BitsStored=10), reference=lambda: dicom(CHEST)),
    "left_aligned": Case(lambda: dicom(CHEST << 4, HighBit=15)),
    "missing_attributes": Case(
        lambda: dicom(CHEST, SamplesPerPixel=None, BitsStored=None, PixelRepresentation=None, BitsAllocated=16),
        reference=lambda: dicom(CHEST, BitsStored=16),
    ),
    "missing_sign": Case(
        lambda: dicom(SIGNED, BitsStored=16, PixelRepresentation=None),
        reference=lambda: dicom(SIGNED, BitsStored=16, PixelRepresentation=1),
    ),
    "inverse_shape": Case(lambda: dicom(CHEST, PresentationLUTShape="INVERSE", **WINDOW), "+Wi 1"),
    "negative_slope": Case(
        lambda: dicom(CHEST, ImplicitVRLittleEndian, RescaleSlope=-1, RescaleIntercept=4095, **WINDOW), "+Wi 1"
    ),
    "signed_big_endian": Case(
        lambda: dicom(SIGNED.astype(">i2"), ExplicitVRBigEndian, PixelRepresentation=1, **RESCALE, **WINDOW),
        "+Wi 1",
    ),
    "jpeg8_in_16": Case(
        lambda: dicom(jpeg(BYTES), JPEGBaseline8Bit, BitsAllocated=16, BitsStored=8),
        reference=lambda: dicom(jpeg(BYTES), JPEGBaseline8Bit),
        compression="jpeg",
    ),
    "jpeg_padding": Case(lambda: dicom(jpeg(BYTES) + bytes(64), JPEGBaseline8Bit), compression="jpeg"),
    "gray_rgb": Case(
        lambda: dicom(
            np.repeat(BYTES[..., None], 3, 2), SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0
        ),
        "+G",
    ),
}
INSIDE = {"monochrome1_padding": PADDED < 4095}  # where padding is not compared
ROUNDING = 1e-4  # of the range: display values of dcmtk have 16 bits
LOSSY = dict.fromkeys(("jpeg8_in_16", "jpeg_padding", "gray_rgb"), 2 / 255)  # decoders and luminance round differently


def have_tools() -> bool:
    return all(shutil.which(tool) for tool in TOOLS)


def render(name: str) -> np.ndarray:
    """The display values of a case according to dcmtk and gdcm."""
    case = CASES[name]
    content = (case.reference or (FOLDER / f"{name}.dcm").read_bytes)()
    if case.compression in DECOMPRESS:
        content = run(DECOMPRESS[case.compression], content)
    tool = "dcmj2pnm" if case.compression == "jpeg" else "dcm2pnm"
    text = run(f"{tool} {case.show} +opw", content).decode("ascii")
    words = " ".join(line.partition("#")[0] for line in text.splitlines()).split()
    assert words[0] == "P2"
    return np.array(words[4:], np.uint16).reshape(int(words[2]), int(words[1]))


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, case in CASES.items():
        (FOLDER / f"{name}.dcm").write_bytes(case.build())
    expected: dict[str, Any] = {name: render(name) for name in CASES}
    np.savez_compressed(FOLDER / "expected.npz", **expected)


if __name__ == "__main__":
    main()
