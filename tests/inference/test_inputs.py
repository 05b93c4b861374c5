"""Folders, arrays, tensors, data sets and files are the images that they look like, or an error that says what to do."""

import io
from copy import deepcopy
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from archives import write_dicom
from PIL import Image
from pydicom.uid import RLELossless

from imitate.errors import UserError
from imitate.inference.inputs import Reading, find_images, radiographs
from imitate.inference.radiograph import Radiograph, UnusableImage, radiograph

OPTIONS = {"size": 32, "resize": "stretch"}


def picture(height: int = 60, width: int = 80) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return (40 + 2 * rows + (columns % 30)).clip(0, 255).astype(np.uint8)


GRAY = picture()
EXPECTED = radiograph(GRAY, **OPTIONS).pixels


def read(images: object, **options: object) -> list:
    return list(radiographs(images, **OPTIONS, **options))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Radiographs, and all that lies beside them in an export of a PACS."""
    root = tmp_path_factory.mktemp("export")
    for name in ("b/study 2", "a", "empty", ".hidden"):
        (root / name).mkdir(parents=True)
    Image.fromarray(GRAY).save(root / "b" / "film.PNG")
    Image.fromarray(GRAY).save(root / "a" / "no suffix", "JPEG", quality=95)
    Image.fromarray(GRAY).save(root / ".hidden" / "x.png")
    write_dicom(root / "b" / "study 2" / "1", GRAY, Modality="DX")
    write_dicom(root / "b" / "study 2" / "converted", GRAY, Modality="OT")
    write_dicom(root / "b" / "study 2" / "ct.dcm", GRAY, Modality="CT")
    report = pydicom.dcmread(root / "b" / "study 2" / "1")
    for keyword in ("Rows", "Columns", "PixelData"):
        del report[keyword]
    report.Modality = "SR"
    report.save_as(root / "b" / "report.dcm")
    (root / "table.csv").write_text("image,label\n")
    (root / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\7" * 40)
    return root


def test_a_folder_is_its_radiographs_by_content_sorted_and_a_broken_one_keeps_its_place(folder):
    names = [str(folder / name) for name in
             ("a/no suffix", "b/film.PNG", "b/study 2/1", "b/study 2/converted", "broken.dcm")]  # fmt: skip
    assert [str(path) for path in find_images(folder)] == names
    found = read(folder, errors="skip")
    assert [each.name for each in found] == names
    assert [isinstance(each, Radiograph) for each in found] == [True] * 4 + [False]
    assert all(np.abs(each.pixels.astype(int) - EXPECTED).max() <= 3 for each in found[:4])
    with pytest.raises(UserError, match="broken.dcm: .*DICOM"):
        read(str(folder))
    nested = read([GRAY, folder / "b", GRAY])
    assert [each.name for each in nested] == ["0", *names[1:4], "4"]


def test_a_folder_without_radiographs_and_a_prepared_one_are_named(folder, tmp_path):
    with pytest.raises(UserError, match="empty: a folder of 0 files without a radiograph"):
        read(folder / "empty", errors="skip")
    with pytest.raises(UserError, match="cannot use .*empty: a folder of 0 files"):
        find_images(folder / "empty")
    with pytest.raises(UserError, match="no such folder"):
        find_images(tmp_path / "absent")
    first, second = read([folder / "empty", GRAY], errors="skip")
    assert first.name == str(folder / "empty") and "without a radiograph" in first.reason and second.name == "1"
    (tmp_path / "shards").mkdir()
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(UserError, match="a prepared folder, which `imitate predict --data` reads"):
        read(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        np.asfortranarray,
        lambda gray: gray.astype(">u2") * 257,
        lambda gray: gray.astype(np.float64),
        lambda gray: (gray / 255).astype(np.float16),
        lambda gray: gray.astype(np.int64) - 10**6,
        lambda gray: gray[None],
        lambda gray: gray[..., None],
        lambda gray: np.repeat(gray, 2, axis=1)[:, ::2],
        lambda gray: np.broadcast_to(gray, (1, 1, *gray.shape)),
        lambda gray: np.dstack([gray, gray, gray, 255 - gray]),
        lambda gray: np.dstack([gray, gray, gray]).astype(">f4"),
        lambda gray: np.stack([gray] * 3)[None],
        lambda gray: Image.fromarray(np.dstack([gray, gray, gray, 255 - gray])),
        torch.from_numpy,
        lambda gray: torch.from_numpy(gray).float().requires_grad_()[None],
        lambda gray: torch.from_numpy(gray).T.contiguous().T,
        lambda gray: pd.DataFrame(gray),
    ],
)
def test_one_image_in_any_layout_and_type_is_the_same_image(change):
    (found,) = read(change(GRAY))
    assert np.abs(found.pixels.astype(int) - EXPECTED).max() <= 1 and found.name == "0"


def test_bfloat16_and_bool_are_numbers():
    (rough,) = read(torch.from_numpy(GRAY).bfloat16())
    assert np.abs(rough.pixels.astype(int) - EXPECTED).max() <= 2
    (mask,) = read(GRAY > 100)
    assert set(np.unique(mask.pixels)) >= {0, 255}


def test_stacks_are_images_in_order_and_what_may_be_channels_is_refused():
    turned = np.ascontiguousarray(GRAY[::-1])
    stack = np.stack([GRAY, turned] * 3)
    for images in (stack, torch.from_numpy(stack), stack[:, None], stack[..., None], list(stack), (x for x in stack)):
        found = read(images)
        assert [each.name for each in found] == list("012345")
        assert np.array_equal(found[0].pixels, EXPECTED) and np.array_equal(found[1].pixels, found[5].pixels)
        assert not np.array_equal(found[0].pixels, found[1].pixels)
    assert [each.name for each in read([GRAY, stack, GRAY])] == list("01234567")
    for count in (3, 4):
        for errors in ("raise", "skip"):
            with pytest.raises(UserError, match=f"may be {count} images or one of {count} channels: give list"):
                read(torch.zeros(count, 50, 50), errors=errors)
    with pytest.raises(UserError, match="an array of 2 images where one is expected"):
        radiograph(stack[:2], **OPTIONS)


def test_data_sets_are_read_as_their_file_is_and_stay_as_they_are(tmp_path):
    path = write_dicom(
        tmp_path / "film.dcm", GRAY.astype(np.uint16) * 16, stored=12, WindowCenter=2000, WindowWidth=3000
    )
    (expected,) = read(path)
    data = pydicom.dcmread(path)
    before = deepcopy(data)
    (found,) = read(data)
    assert found.name == str(path) and np.array_equal(found.pixels, expected.pixels) and data == before
    made = pydicom.Dataset()
    made.update({tag: deepcopy(data[tag]) for tag in data.keys()})  # noqa: SIM118
    del made.BitsStored, made.PhotometricInterpretation
    made.PresentationLUTShape = "INVERSE"
    (negative,) = read([made])
    assert negative.name == "0" and "BitsStored" not in made and not hasattr(made, "file_meta")
    assert np.abs(255 - negative.pixels.astype(int) - expected.pixels).max() <= 60  # without its window
    data.compress(RLELossless)
    assert np.array_equal(read(data)[0].pixels, expected.pixels)
    assert np.array_equal(read(pydicom.dcmread(path, defer_size=100))[0].pixels, expected.pixels)
    assert np.array_equal(read(pydicom.dcmread(io.BytesIO(path.read_bytes())))[0].pixels, expected.pixels)


def test_files_open_or_to_be_opened_are_read_from_their_beginning_and_named(tmp_path):
    path = tmp_path / "film.png"
    Image.fromarray(GRAY).save(path)
    memory = fsspec.filesystem("memory")
    memory.pipe("/inputs/film.png", path.read_bytes())
    with path.open("rb") as half_read, path.open("rb", buffering=0) as raw, memory.open("/inputs/film.png") as remote:
        half_read.read(50)
        sources = [half_read, half_read, raw, remote, fsspec.open(str(path)), fsspec.open("memory://inputs/film.png"),
                   io.BytesIO(path.read_bytes()), path.read_bytes(), Image.open(path)]  # fmt: skip
        found = read(sources)
    local, away = path, Path("/inputs/film.png")
    assert [Path(each.name) for each in found] == [local] * 3 + [away, local, away, Path("6"), Path("7"), local]
    assert all(np.array_equal(each.pixels, EXPECTED) for each in found)
    assert all(np.array_equal(each.pixels, EXPECTED) for each in read(fsspec.open_files(str(tmp_path / "*.png"))))


def test_names_of_a_mapping_and_lists_as_tables_hold_them(tmp_path):
    path = tmp_path / "film.png"
    Image.fromarray(GRAY).save(path)
    assert [each.name for each in read({"first": GRAY, 7: path})] == ["first", "7"]
    for several in (pd.Series([str(path)]), np.array([str(path)]), {str(path)}, iter([path])):
        assert [each.name for each in read(several)] == [str(path)]
    first, second = read({"bad": np.zeros((20, 20)), "good": GRAY}, errors="skip")
    assert (first.name, first.reason, second.name) == ("bad", "black image", "good")


def closed(path: Path) -> object:
    with path.open("rb") as file:
        return file


def shut(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image


UNUSABLE = {
    "NoneType is no image": lambda _: None,
    "int is no image": lambda _: 5,
    "list is no image": lambda _: [GRAY],
    "values of type object": lambda _: np.full((20, 20), None),
    "values of type complex128": lambda _: np.ones((20, 20), complex),
    r"shape \(5,\) is not": lambda _: np.zeros(5),
    r"shape \(\) is not": lambda _: np.zeros(()),
    "image under 16 pixels": lambda _: np.ones((1, 1), np.uint8),
    "values that are not finite": lambda _: np.where(GRAY > 100, np.nan, GRAY),
    "values that are not finite number": lambda _: np.full((20, 20), 1e300),
    "black image": lambda _: np.zeros((20, 20), bool),
    "constant image": lambda _: torch.ones(20, 20),
    "a Tensor that gives no array": lambda _: torch.ones(20, 20, device="meta"),
    "missing file": lambda path: path.with_name("absent.png"),
    "a path with a null byte": lambda _: "a\0b",
    "a path that is too long": lambda _: "x" * 5000,
    r"an address, not a file: give fsspec.open\(address\)": lambda _: "s3://bucket/film.png",
    "not a DICOM, PNG or JPEG file": lambda _: b"no image",
    "a closed file": closed,
    "a file of text: open it": lambda path: path.with_name("notes.txt").open(),
    'a file that cannot be read: open it with "rb"': lambda path: path.with_name("written").open("wb"),
    "damaged or truncated image, or a closed one": shut,
    "damaged or truncated image": lambda path: io.BytesIO(path.read_bytes()[:-60]),
    "damaged or truncated image, or": lambda path: Image.open(io.BytesIO(path.read_bytes()[:-60])),
    "DICOM without an image": lambda _: pydicom.Dataset(),
    "DICOM without its pixels: read it without stop_before_pixels": lambda path: pydicom.dcmread(
        write_dicom(path.with_name("film.dcm"), GRAY), stop_before_pixels=True
    ),
}


@pytest.mark.parametrize("reason", UNUSABLE)
def test_each_unusable_image_keeps_its_place_with_its_reason_and_ends_a_strict_call(reason, tmp_path):
    path = tmp_path / "film.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50), np.uint8)).save(path)
    (tmp_path / "notes.txt").write_text("words")
    source = UNUSABLE[reason](path)
    before, skipped, after = read(iter([GRAY, source, GRAY]), errors="skip")
    assert (before.name, after.name) == ("0", "2") and isinstance(skipped, UnusableImage)
    with pytest.raises(UserError, match=f"cannot use .*{reason}") as error:
        read(iter([GRAY, source]))
    assert "\n" not in str(error.value)
    if hasattr(source, "close"):
        source.close()


def test_what_is_no_image_at_all_and_another_way_with_errors():
    with pytest.raises(UserError, match="NoneType is not an image: give paths, folders"):
        read(None)
    with pytest.raises(UserError, match="errors='ignore': choose 'raise' or 'skip'"):
        read([GRAY], errors="ignore")
    assert read([]) == read(np.zeros((0, 20, 20))) == []
    with pytest.raises(UserError, match="read for a model of 32 pixels a side, this one has 64"):
        radiograph(radiograph(GRAY, **OPTIONS), size=64, resize="stretch")


def test_an_error_of_a_generator_itself_is_not_skipped():
    def broken():
        yield GRAY
        raise RuntimeError("no connection")

    with pytest.raises(RuntimeError, match="no connection"):
        read(broken(), errors="skip")


def test_a_reading_remembers_positions_and_fills_rows(caplog):
    bad = np.zeros((20, 20))
    reading = Reading(radiographs([bad, GRAY, bad, GRAY], errors="skip", **OPTIONS), 32)
    assert [len(batch) for batch in reading.batches(1)] == [1, 1] and reading.usable.tolist() == [1, 3]
    found = pd.DataFrame({"A": np.float32([0.1, 0.2]), "yes": [True, False]})
    table = reading.table(found, "skip")
    assert table.index.tolist() == list("0123") and table["reason"].tolist() == ["black image", None] * 2
    assert table["A"].isna().tolist() == [True, False] * 2 and table["A"].iloc[3] == np.float32(0.2)
    assert table["yes"].dtype == "boolean" and table["yes"].iloc[1] and pd.isna(table["yes"].iloc[0])
    rows = reading.rows(np.float32([[1, 2], [3, 4]]))
    assert np.array_equal(rows, np.float32([[np.nan] * 2, [1, 2], [np.nan] * 2, [3, 4]]), equal_nan=True)
    assert caplog.text.count("skipped: cannot use images[") == 2
    none = Reading(radiographs([bad], errors="skip", **OPTIONS), 32)
    assert [batch.shape for batch in none.batches(4)] == [(1, 32, 32)] and not len(none.usable)
    with pytest.raises(UserError, match="a column cannot be called reason"):
        none.table(pd.DataFrame({"reason": []}), "skip")
