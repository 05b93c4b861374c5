"""Equalised images: the published formula, what a folder records, and what must not move."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

import imitate
from imitate.data.corpus import Corpus
from imitate.data.dicom import ImageError
from imitate.data.pixels import read_gray, to_prepared
from imitate.data.tone import equalize, is_flat, tone_of
from imitate.errors import UserError
from imitate.synthetic.cases import draw_case
from imitate.synthetic.files import save_dicom
from imitate.synthetic.phantom import render

CASES = [draw_case(4, index) for index in range(12)]
IMAGES = [((render(case, 128).image / 255) ** 2.2 * 255).astype(np.uint8) for case in CASES]  # as dark as many are


def test_equalisation_is_that_of_opencv() -> None:
    """By hand: the darkest level becomes 0 and does not count, the others their rank among the rest."""
    levels = np.array([[10, 20, 20, 30], [40, 40, 40, 40]], np.uint8)
    assert equalize(levels).tolist() == [[0, 73, 73, 109], [255] * 4]  # 2, 3 and 7 sevenths of 255
    deep = np.array([[0, 65535, 32767, 32768]], np.uint16)
    assert equalize(deep).tolist() == [[0, 255, 170, 170]]  # 127.498 and 127.501 are both cut to level 127
    assert equalize(deep.astype(np.float32) - 7).tolist() == equalize(deep).tolist()
    with pytest.raises(ImageError, match="constant image"):
        equalize(np.full((4, 4), 7, np.uint8))


def test_an_equalised_image_stays_as_it_is_and_is_distinguished_from_a_native_one() -> None:
    for image in IMAGES:
        flat = equalize(image)
        assert np.abs(equalize(flat).astype(int) - flat).max() <= 1
    prepared = [to_prepared(image, 128)[0] for image in IMAGES]
    equal = [to_prepared(image, 128, equalized=True)[0] for image in IMAGES]
    assert tone_of(prepared) == "native" and tone_of(equal) == "equalized"
    assert tone_of(prepared + equal) == tone_of([]) == "unknown"
    assert not is_flat(np.zeros((8, 8), np.uint8))
    framed = np.pad(np.arange(256, dtype=np.uint8).reshape(16, 16), 40)
    assert is_flat(framed)  # whatever black surrounds it


def test_stray_values_are_cut_off_before_the_levels_are_made() -> None:
    values = np.linspace(100, 200, 4096, dtype=np.float32).reshape(64, 64)
    values[5, 5] = 2000
    crushed, kept = (to_prepared(values, 64, equalized=True, percentiles=each)[0] for each in (None, (0.1, 99.9)))
    assert len(np.unique(crushed)) < 60 and len(np.unique(kept)) > 200


def dicom(image: np.ndarray, path: Path, *, window: tuple[float, float]) -> bytes:
    save_dicom(path, image, CASES[0], uids=("1.2.3", "1.2.4", "1.2.5"))
    data = dcmread(path)
    data.WindowCenter, data.WindowWidth = window
    content = BytesIO()
    data.save_as(content)
    return content.getvalue()


def test_a_dicom_is_equalised_from_its_values_whatever_its_window(tmp_path: Path) -> None:
    found = dicom(IMAGES[0], tmp_path / "a.dcm", window=(100, 60))
    assert len(np.unique(read_gray(found))) < 70 < len(np.unique(read_gray(found, windowed=False)))
    whole = to_prepared(read_gray(found, windowed=False), 64, equalized=True)[0]
    np.testing.assert_array_equal(whole, to_prepared(IMAGES[0], 64, equalized=True)[0])


def archive(root: Path) -> Path:
    root.mkdir()
    rows = ["image_path,patient,findings\n"]
    for number, image in enumerate(IMAGES):
        Image.fromarray(image).save(root / f"{number}.png")
        rows.append(f"{number}.png,{number},text {number}\n")
    (root / "t.csv").write_text("".join(rows))
    return root


def test_a_prepared_folder_says_its_tone_and_other_pixels_do_not_move(tmp_path: Path) -> None:
    raw = archive(tmp_path / "raw")
    plain = imitate.prepare("table", raw=raw, out=tmp_path / "a", size=64, workers=1)
    equal = imitate.prepare("table", raw=raw, out=tmp_path / "b", size=64, workers=1, tone="equalize")
    assert plain and equal and (plain["tone"], equal["tone"]) == ("native", "equalized")
    assert plain["settings"]["equalized"] is None and equal["settings"]["equalized"] is True
    folders = [Corpus.open(tmp_path / name) for name in "ab"]
    assert [each.meta["tone"] for each in folders] == ["native", "equalized"]
    for row, image in enumerate(IMAGES):
        np.testing.assert_array_equal(folders[0].images[row], to_prepared(image, 64)[0])
        np.testing.assert_array_equal(folders[1].images[row], to_prepared(image, 64, equalized=True)[0])
    with pytest.raises(UserError, match="was prepared with equalized true, not null"):
        imitate.prepare("table", raw=raw, out=tmp_path / "b", size=64, workers=1)
