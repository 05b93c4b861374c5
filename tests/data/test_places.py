import zipfile
from pathlib import Path

import pytest

from imitate.data.places import find_images, load_json
from imitate.errors import UserError


def test_images_are_found_in_folders_and_archives(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.JPG", "notes.txt"):
        (tmp_path / "images" / name).touch()
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for name in ("deep/a.png", "deep/er/c.png", "readme.txt"):
            archive.writestr(name, "")
    found = find_images(tmp_path, ["images", "absent"], ["*.zip"])
    assert found == {
        "a.png": (tmp_path / "images" / "a.png", ""),
        "b.JPG": (tmp_path / "images" / "b.JPG", ""),
        "c.png": (tmp_path / "images.zip", "deep/er/c.png"),
    }


def test_a_zip_that_is_cut_short_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("a.png", "x" * 1000)
    data = (tmp_path / "images.zip").read_bytes()
    (tmp_path / "images.zip").write_bytes(data[:500])
    with pytest.raises(UserError, match=r"images\.zip is not a readable zip \(.*\): copy or download it again"):
        find_images(tmp_path, [], ["*.zip"])


@pytest.mark.parametrize(
    ("text", "said"),
    [("[1,", "is not readable JSON"), ("{}", "must hold a list, not dict"), ("[" * 99_999, "is not readable JSON")],
)
def test_json_that_is_cut_short_or_something_else_is_named(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=rf"x\.json {said}"):
        load_json(tmp_path / "x.json", list)
    with pytest.raises(UserError, match=r"no file .*absent\.json"):
        load_json(tmp_path / "absent.json", list)
