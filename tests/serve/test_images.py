import gzip
import io

import numpy as np
import pydicom
import pytest
from PIL import Image
from uploads import dicom, encoded, enormous, photograph, picture, several_frames

from imitate.errors import UserError
from imitate.serve import images
from imitate.serve.images import MAP_SIDE, SIDE, coarse, colours, hold, read_upload


@pytest.fixture
def predictor(service):
    return service.predictor


def shown(held) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(held.picture)))


def test_the_model_sees_what_the_library_reads(predictor, tmp_path):
    for content in (encoded(picture()), encoded(picture(), "JPEG"), dicom(tmp_path)):
        held = read_upload(content, predictor)
        expected = predictor.read(io.BytesIO(content))
        assert np.array_equal(held.radiograph.pixels, expected.pixels)
        assert held.radiograph.geometry == expected.geometry  # small enough to be shown as it is
        assert shown(held).shape == (90, 80) and (held.width, held.height) == (80, 90)


def test_a_model_of_equalised_images_sees_no_window(predictor, tmp_path, monkeypatch):
    equalized = predictor.encoder.preprocessing.model_copy(update={"tone": "equalized"})
    content = dicom(tmp_path, WindowCenter=120, WindowWidth=60)
    windowed = predictor.read(io.BytesIO(content)).pixels
    monkeypatch.setattr(predictor.encoder, "preprocessing", equalized)
    held, expected = read_upload(content, predictor), predictor.read(io.BytesIO(content))
    assert np.array_equal(held.radiograph.pixels, expected.pixels)
    monkeypatch.undo()
    assert np.array_equal(shown(held), shown(read_upload(content, predictor)))
    assert not np.array_equal(windowed, expected.pixels)


def test_deep_gray_values_are_shown_from_black_to_white(predictor):
    pixels = shown(read_upload(encoded(picture().astype(np.uint16) * 7 + 100), predictor))
    assert (pixels.min(), pixels.max()) == (0, 255)


def pixels(held) -> np.ndarray:
    shown = held.pixels
    values = np.frombuffer(gzip.decompress(held.raw), np.uint8 if shown.bits == 8 else "<u2")
    return values.reshape(shown.height, shown.width)


def test_pixels_have_all_bits_of_the_file(predictor):
    deep = picture().astype(np.uint16) * 7 + 100
    held = read_upload(encoded(deep), predictor)
    assert np.array_equal(pixels(held), deep)
    assert (held.pixels.low, held.pixels.high) == (deep.min(), deep.max())
    held = read_upload(encoded(picture()), predictor)
    assert held.pixels.bits == 8 and np.array_equal(pixels(held), picture())


@pytest.mark.parametrize("negative", [False, True])
def test_pixels_of_a_dicom_are_those_beyond_its_window(predictor, tmp_path, negative):
    changes = {"PhotometricInterpretation": "MONOCHROME1"} if negative else {}
    content = dicom(tmp_path, RescaleSlope=4, RescaleIntercept=0, WindowCenter=600, WindowWidth=400, **changes)
    stored = 4 * pydicom.dcmread(io.BytesIO(content)).pixel_array.astype(int)
    held = read_upload(content, predictor)
    expected = stored.max() - stored if negative else stored - stored.min()
    assert np.array_equal(pixels(held), expected)
    ends = [stored.max() - end if negative else end - stored.min() for end in (400, 800)]
    assert sorted(ends) == pytest.approx([held.pixels.low, held.pixels.high], abs=6)  # where the window clips
    expected = predictor.read(io.BytesIO(content))
    assert np.array_equal(held.radiograph.pixels, expected.pixels)  # the model sees the window


def test_a_table_that_bends_the_values_is_kept(predictor):
    bent = np.sqrt(picture().astype(np.float32))
    held = hold(bent, predictor, picture().astype(np.float32))
    assert np.abs(pixels(held) / pixels(held).max() - bent / bent.max()).max() < 1e-4  # as the header wants it


def test_pixels_of_a_huge_image_fit_a_canvas(predictor, monkeypatch):
    monkeypatch.setattr(images, "FULL_SIDE", 45)
    held = read_upload(encoded(picture()), predictor)
    assert pixels(held).shape == (45, 40) and shown(held).shape == (90, 80)


def test_a_large_image_is_shown_smaller_and_its_map_fits(predictor):
    frame = np.zeros((2400, 1500), np.uint8)
    frame[240:2160, 300:1200] = np.asarray(Image.fromarray(picture()).resize((900, 1920)))
    frame[240:2160, 300:1200] |= 1
    held = read_upload(encoded(frame), predictor)
    assert (held.width, held.height) == (1500, 2400)
    assert shown(held).shape == (SIDE, SIDE * 1500 // 2400)
    heat = predictor.heatmap(held.radiograph, "left effusion")
    assert heat.shape == shown(held).shape
    small = predictor.heatmap(coarse(held.radiograph), "left effusion")
    assert small.shape == (MAP_SIDE, MAP_SIDE * 1500 // 2400)  # for the eye, since maps are smooth
    stretched = np.asarray(Image.fromarray(small).resize(heat.shape[::-1], Image.Resampling.BILINEAR))
    assert np.abs(stretched - heat).mean() < 0.01
    left, top, right, bottom = held.radiograph.geometry.crop
    assert np.abs(np.array([left, top, right, bottom]) / SIDE - np.array([300, 240, 1200, 2160]) / 2400).max() < 1e-3
    assert not heat[:top].any() and not heat[:, right:].any()


def test_a_sliver_can_be_shown(predictor):
    sliver = np.tile(np.arange(20, dtype=np.uint8), (30_000, 1))
    held = read_upload(encoded(sliver), predictor)
    assert shown(held).shape == (SIDE, 1)
    assert predictor.heatmap(held.radiograph, "left effusion").shape == (SIDE, 1)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda _: b"", "empty file"),
        (lambda _: b"GIF89a" + bytes(200), "not a DICOM, PNG or JPEG"),
        (lambda _: encoded(picture())[:2000], "damaged or truncated"),
        (lambda _: encoded(np.zeros((50, 50), np.uint8)), "black image"),
        (lambda _: encoded(np.ones((8, 8), np.uint8)), "under 16 pixels"),
        (lambda _: photograph(), "colour picture"),
        (lambda _: enormous(), "too many pixels"),
        (several_frames, "several frames"),
        (lambda folder: dicom(folder, PhotometricInterpretation="RGB"), "in colour"),
        (lambda folder: dicom(folder, Rows=60_000, Columns=60_000), "too many pixels"),
    ],
)
def test_what_cannot_be_used_is_reported_in_one_line(predictor, tmp_path, make, reason):
    with pytest.raises(UserError, match=reason) as reported:
        read_upload(make(tmp_path), predictor)
    assert "\n" not in str(reported.value) and "give one frontal radiograph" in str(reported.value)


def test_colours_are_as_opaque_as_the_map_is_high():
    painted = colours(np.array([[0, 0.5, 1]], np.float32))
    assert painted[0, :, 3].tolist() == [0, 128, 255]
    assert painted[0, 2, :3].tolist() == [252, 255, 164]  # the end of inferno
