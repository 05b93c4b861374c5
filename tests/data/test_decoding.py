import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imitate.data.annotations import Annotation, Box, RunLengths, Shape, draw_mask, runs_mask
from imitate.data.decoding import Decoder
from imitate.data.jobs import Decoded, Job, Setup
from imitate.data.pixels import read_gray, to_prepared
from imitate.data.records import Record
from imitate.data.worker import Failure

GRAY = np.random.default_rng(0).integers(1, 255, (40, 32)).astype(np.uint8)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.fromarray(GRAY).save(tmp_path / "1.png")
    return tmp_path / "1.png"


def decode(image: Path, *, masks: bool = True, resize: str = "stretch", **fields: object) -> Decoded | Failure:
    return Decoder(Setup(24, resize, masks))(Job.of(Record("i", image, "p", "s", **fields)))


def test_pixels_masks_and_boxes_go_together(image: Path) -> None:
    annotations = (
        Box("A", 4, 8, 8, 8, phrase="left", reader="R"),
        Box("B", 99, 99, 1, 1),
        Box("C", 40, 40, 10, 10, reference_size=(64, 80)),
        RunLengths("A", "80 200", (32, 40)),
        Shape("A", "ellipse", ((1, 1), (20, 20))),
    )
    expected, geometry = to_prepared(read_gray(image), 24)
    found = decode(image, annotations=annotations)
    assert isinstance(found, Decoded) and found.boxes_outside == 1
    np.testing.assert_array_equal(found.image, expected)
    np.testing.assert_array_equal(found.mask, geometry.mask(draw_mask(annotations, 32, 40)))
    assert found.mask is not None and found.mask.any()
    placed = geometry.box(annotations[0])
    assert [box["label"] for box in found.boxes] == ["A", "C"]
    assert (found.boxes[0]["phrase"], found.boxes[0]["reader"]) == ("left", "R")
    assert placed and tuple(found.boxes[0].values())[:5] == placed[:5]


def test_masks_with_a_label_or_a_phrase_are_kept_apart_and_those_beyond_the_square_are_not(image: Path) -> None:
    annotations: tuple[Annotation, ...] = (
        RunLengths("A", "80 200", (32, 40), phrase="left", reader="R"),
        Shape("", "ellipse", ((1, 1), (20, 20)), phrase="a circle"),
        RunLengths("", "0 40", (32, 40)),
        RunLengths("B", "", (32, 40)),
        Shape("C", "rectangle", ((0, 0), (31, 2))),
    )
    _, geometry = to_prepared(read_gray(image), 24, "middle-bilinear")
    found = decode(image, annotations=annotations, masks=False, resize="middle-bilinear")
    assert isinstance(found, Decoded) and found.mask is None
    assert [list(each.values())[:3] for each in found.regions] == [["A", "left", "R"], ["", "a circle", ""]]
    for each, row in zip(annotations, found.regions, strict=False):
        expected = geometry.mask(draw_mask([each], 32, 40)) > 0
        np.testing.assert_array_equal(runs_mask(24, 24, runs=[row["runs"]], frame=(24, 24)), expected)


def test_masks_only_where_the_source_has_them(image: Path) -> None:
    without, empty = decode(image, masks=False), decode(image)
    assert isinstance(without, Decoded) and without.mask is None
    assert isinstance(empty, Decoded) and empty.mask is not None and not empty.mask.any()


def test_letterbox_keeps_the_aspect_ratio(image: Path) -> None:
    found = decode(image, resize="letterbox")
    assert isinstance(found, Decoded) and not found.image[:, :2].any() and found.image[:, 3:-3].any()


def test_members_of_archives(image: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(image, "x/1.png")
    (tmp_path / "bad.zip").write_bytes(b"no archive")
    found, alone = decode(tmp_path / "a.zip", member="x/1.png"), decode(image)
    assert isinstance(found, Decoded) and isinstance(alone, Decoded)
    np.testing.assert_array_equal(found.image, alone.image)
    assert decode(tmp_path / "a.zip", member="y") == Failure("missing file")
    assert decode(tmp_path / "absent.zip", member="y") == Failure("missing file")
    assert decode(tmp_path / "bad.zip", member="y") == Failure("damaged, encrypted or unsupported archive")


def test_few_archives_stay_open(image: Path, tmp_path: Path) -> None:
    decoder = Decoder(Setup(24, "stretch", False))
    for number in range(12):
        with zipfile.ZipFile(tmp_path / f"{number}.zip", "w") as archive:
            archive.write(image, "1.png")
        assert isinstance(decoder(Job(tmp_path / f"{number}.zip", "1.png", (), None, None)), Decoded)
    assert len(decoder.archives) == 8


def test_what_a_source_knows_about_the_values(image: Path) -> None:
    plain, inverted = decode(image), decode(image, invert=True)
    assert isinstance(plain, Decoded) and isinstance(inverted, Decoded)
    assert np.abs(255 - plain.image.astype(int) - inverted.image).max() <= 2
    shown, ignored = decode(image, window=(100, 50)), decode(image, window=(-900, 10))
    assert isinstance(shown, Decoded) and isinstance(ignored, Decoded)
    gray = read_gray(image, window=(100, 50))
    np.testing.assert_array_equal(shown.image, to_prepared(gray, 24)[0])
    assert not np.array_equal(shown.image, plain.image) and shown.notes == ()
    assert np.abs(ignored.image.astype(int) - plain.image).max() <= 1 and ignored.notes == ("window ignored",)
    dicom = decode(Path(__file__).parent / "golden_dicom" / "window_misses.dcm")
    assert isinstance(dicom, Decoded) and dicom.notes == ("window ignored",)


def test_percentiles_decide_the_pixels(image: Path) -> None:
    job = Job.of(Record("i", image, "p", "s"))
    found = Decoder(Setup(24, "stretch", False, (5, 95)))(job)
    assert isinstance(found, Decoded)
    np.testing.assert_array_equal(found.image, to_prepared(read_gray(image), 24, percentiles=(5, 95))[0])
    assert not np.array_equal(found.image, Decoder(Setup(24, "stretch", False))(job).image)


def test_reasons_for_what_cannot_be_decoded(image: Path, tmp_path: Path) -> None:
    assert decode(tmp_path / "absent.png") == Failure("missing file")
    annotations = (RunLengths("A", "80 9999", (32, 40)),)
    assert decode(image, annotations=annotations) == Failure("run lengths exceed the image")
