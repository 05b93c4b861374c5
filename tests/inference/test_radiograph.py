"""The same picture handed over in every way is the same prepared image; any other input is an error of one line."""

import io
import logging
import pickle

import numpy as np
import pytest
from archives import write_dicom
from PIL import Image

from imitate.data.pixels import Geometry
from imitate.errors import UserError
from imitate.inference.inputs import radiographs
from imitate.inference.radiograph import Radiograph, UnusableImage, radiograph, to_original


def picture(height: int = 60, width: int = 80) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return (40 + 2 * rows + (columns % 30)).clip(0, 255).astype(np.uint8)


def read(source: object, **options: object) -> Radiograph:
    return radiograph(source, **{"size": 32, "resize": "stretch", **options})


def test_every_way_of_handing_over_gives_the_same_pixels(tmp_path):
    gray = picture()
    Image.fromarray(gray).save(tmp_path / "gray.png")
    Image.fromarray(np.stack([gray] * 3, 2)).save(tmp_path / "rgb.png")
    ways = [
        gray, np.stack([gray] * 3, 2), gray[..., None], gray.astype(np.uint16), gray / 255, gray.astype(np.int16) - 300,
        Image.fromarray(gray), Image.fromarray(gray).convert("RGB"), Image.fromarray(gray).convert("F"),
        Image.fromarray(gray.astype(np.uint16)),
        tmp_path / "gray.png", str(tmp_path / "rgb.png"), io.BytesIO((tmp_path / "gray.png").read_bytes()),
        write_dicom(tmp_path / "film", gray, stored=12),
    ]  # fmt: skip
    expected = read(gray).pixels
    for way in ways:
        # 8-bit input is stretched before, other input after resizing: rounding differs by one
        assert np.abs(read(way).pixels.astype(int) - expected).max() <= (2 if way is ways[5] else 1), type(way)


def test_names_are_paths_or_numbers_and_reading_is_lazy(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    read_so_far = []

    def sources():
        for source in (tmp_path / "a.png", picture(), tmp_path / "absent.png"):
            read_so_far.append(source)
            yield source

    found = radiographs(sources(), size=32, resize="stretch")
    assert [next(found).name, next(found).name] == [str(tmp_path / "a.png"), "1"] and len(read_so_far) == 2
    with pytest.raises(UserError, match="absent.png: missing file"):
        next(found)
    assert [each.name for each in radiographs(picture(), size=32, resize="stretch")] == ["0"]


def test_what_is_read_already_passes_through():
    once = read(picture())
    assert read(once) is once


@pytest.mark.parametrize(
    "source, reason",
    [
        (np.zeros((3, 50, 50)), r"shape \(3, 50, 50\) may be 3 images or one of 3 channels: give list\(array\)"),
        (np.zeros((5, 50, 50, 3)), "an array of 5 images where one is expected"),
        (np.full((50, 50), np.nan), "values that are not finite"),
        (np.zeros((50, 50)), "black image"),
        (np.full((50, 50), 7), "constant image"),
        (np.zeros((0, 50)), "black image"),
        (picture(8, 8), "under 16 pixels"),
        (np.broadcast_to(np.uint8(1), (20_000, 20_000)), "too many pixels"),
        (Image.new("L", (20_000, 3_400)), "too many pixels"),
        (io.BytesIO(b"hello, I am no image"), "not a DICOM, PNG or JPEG"),
        (io.BytesIO(b""), "empty file"),
    ],
)
def test_what_cannot_be_used_is_named_with_the_reason_and_the_way_out(source, reason):
    with pytest.raises(UserError, match=f"cannot use film: .*{reason}.*; give one frontal radiograph") as reported:
        read(source, name="film")
    assert "\n" not in str(reported.value)


def test_an_error_comes_out_of_another_process_as_it_was():
    error = UnusableImage("a.png", "missing file")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.name, again.reason, str(again)) == (UnusableImage, "a.png", "missing file", str(error))


def test_a_dicom_volume_and_a_file_of_400_megapixels_are_refused_by_their_headers(tmp_path):
    volume = write_dicom(tmp_path / "ct.dcm", np.zeros((4, 20, 20)), stored=12, NumberOfFrames=4)
    with pytest.raises(UserError, match="ct.dcm: DICOM of several frames"):
        read(volume)
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    with pytest.raises(UserError, match="huge.png: too many pixels.*at most 67 megapixels"):
        read(tmp_path / "huge.png")


def test_a_colour_photograph_is_read_with_a_warning_and_gray_in_three_channels_without(tmp_path, caplog):
    gray = np.stack([picture()] * 3, 2)
    marked = gray.copy()
    marked[:5, :10] = (255, 255, 0)  # a marker
    photograph = gray.copy()
    photograph[:, :40, 0] = 0
    for name, pixels in {"gray": gray, "marked": marked, "photograph": photograph}.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        Image.fromarray(pixels).save(tmp_path / f"{name}.jpg", quality=95)
        ways = [pixels, tmp_path / f"{name}.png", str(tmp_path / f"{name}.jpg"), Image.fromarray(pixels)]
        ways.append(io.BytesIO((tmp_path / f"{name}.png").read_bytes()))
        for way in ways:
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                read(way)
            assert ("colour image" in caplog.text) == (name == "photograph"), (name, type(way))


def test_a_photograph_turned_by_its_exif_is_read_upright():
    turned = Image.fromarray(picture())
    turned.getexif()[0x0112] = 6
    assert (read(turned).geometry.width, read(turned).geometry.height) == (60, 80)


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_a_map_over_the_square_lies_over_the_same_place_of_the_original(resize):
    """A bright spot in a bordered, oblong image: its map comes back to where it is."""
    gray = np.zeros((300, 200), np.uint8)
    gray[20:280, 30:190] = 10
    gray[200:220, 50:70] = 255
    seen = read(gray, size=64, resize=resize)
    heat = to_original((seen.pixels / 255).astype(np.float32), seen.geometry)
    assert heat.shape == (300, 200) and heat.dtype == np.float32
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert 200 <= y < 220 and 50 <= x < 70
    assert not heat[:20].any() and not heat[:, :30].any() and not heat[280:].any() and not heat[:, 190:].any()


def test_the_map_of_an_image_that_fills_the_square_is_the_map():
    square = np.random.default_rng(0).random((48, 48), np.float32)
    whole = Geometry(48, 48, 48, (0, 0, 48, 48), (0, 0, 48, 48))
    assert np.array_equal(to_original(square, whole), square)


def test_real_radiographs_are_read_without_a_warning(real_data, caplog):
    folder = real_data / "open-i" / "images" / "images_normalized"
    for path in sorted(folder.glob("*.jpg"))[:20]:
        assert read(path).pixels.std() > 10
    assert not caplog.text
