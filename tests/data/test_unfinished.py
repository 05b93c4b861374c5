import json
import os
from pathlib import Path

import numpy as np
import pytest

from imitate.data.chunks import Chunk
from imitate.data.unfinished import HEADER, Unfinished, require_same
from imitate.errors import UserError

SETTINGS = {"source": "table", "size": 4, "options": {"raw": "/a"}}


def chunk(value: int, rows: int = 2, *, masks: bool = False, dropped: int = 0) -> Chunk:
    images = np.full((rows, 4, 4), value, np.uint8)
    return Chunk(
        images=images,
        masks=images % 2 if masks else None,
        rows=[{"image_id": f"{value}-{i}"} for i in range(rows)],
        dropped=[("x", "black image")] * dropped,
        boxes_dropped={},
        content=str(value),
        fields=f"fields {value}",
    )


def fill(out: Path, *chunks: Chunk) -> None:
    with Unfinished(out, SETTINGS) as folder:
        for each in chunks:
            folder.append(each)


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_what_was_appended_is_known_again(tmp_path: Path) -> None:
    fill(tmp_path / "new" / "out", chunk(1), chunk(2, rows=0, dropped=3), chunk(3, rows=1))
    with Unfinished(tmp_path / "new" / "out", SETTINGS) as folder:
        assert (folder.chunks, folder.records, folder.rows, folder.fields) == (3, 6, 3, "fields 3")
        entries = list(folder.entries())
        folder.seal()
    assert [len(entry["rows"]) for entry in entries] == [2, 0, 1]
    assert entries[1]["dropped"] == [["x", "black image"]] * 3
    images = np.load(tmp_path / "new" / "out" / "images.npy", mmap_mode="r", allow_pickle=False)
    np.testing.assert_array_equal(images[:, 0, 0], [1, 1, 3])


def test_masks_start_where_the_first_one_is(tmp_path: Path) -> None:
    fill(tmp_path, chunk(1), chunk(3, masks=True), chunk(5))
    with Unfinished(tmp_path, SETTINGS) as folder:
        folder.append(chunk(7, masks=True))
        folder.seal()
    masks = np.load(tmp_path / "masks.npy", allow_pickle=False)
    np.testing.assert_array_equal(masks[:, 0, 0], [0, 0, 1, 1, 0, 0, 1, 1])


@pytest.mark.parametrize("torn", range(0, 60, 7))
def test_a_torn_end_is_cut_off(tmp_path: Path, torn: int) -> None:
    """Whatever a kill left behind the last whole line: half a line, half a chunk of pixels, the first mask."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    fill(whole, chunk(1), chunk(2), chunk(3, masks=True))
    fill(broken, chunk(1))
    line = (whole / "progress.jsonl").read_bytes().splitlines()[2]
    with (broken / "progress.jsonl").open("ab") as file:
        file.write(line[: torn * 3])
    with (broken / "images.npy").open("ab") as file:
        file.write(bytes([2] * torn))
    if torn > 20:
        (broken / "masks.npy").write_bytes(bytes(torn))
    fill(broken, chunk(2), chunk(3, masks=True))
    assert files(broken) == files(whole)


def test_a_kill_before_the_first_line_leaves_a_fresh_folder(tmp_path: Path) -> None:
    (tmp_path / "progress.jsonl").write_bytes(b'{"sou')
    fill(tmp_path, chunk(1))
    fill(tmp_path / "fresh", chunk(1))
    (tmp_path / "fresh").rename(tmp_path.parent / f"{tmp_path.name}-fresh")
    assert files(tmp_path) == files(tmp_path.parent / f"{tmp_path.name}-fresh")


def test_lost_pixels_are_noticed(tmp_path: Path) -> None:
    fill(tmp_path, chunk(1), chunk(2, masks=True))
    for name in ("masks.npy", "images.npy"):
        os.truncate(tmp_path / name, HEADER + 3)
        with pytest.raises(UserError, match=f"{name} is shorter than its journal says: delete"):
            Unfinished(tmp_path, SETTINGS)


def test_other_settings_are_told_by_their_difference(tmp_path: Path) -> None:
    fill(tmp_path, chunk(1))
    with pytest.raises(UserError, match=r'was prepared with size 4, not 8; raw "/a", not "/b": choose another --out'):
        Unfinished(tmp_path, {**SETTINGS, "size": 8, "options": {"raw": "/b"}})
    require_same(tmp_path, SETTINGS, SETTINGS)


def test_a_strange_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="is not empty and holds no prepared folder"):
        Unfinished(tmp_path, SETTINGS)
    with pytest.raises(UserError, match="cannot write into"):
        Unfinished(tmp_path / "thesis.txt", SETTINGS)
    assert files(tmp_path) == {"thesis.txt": b"years of work"}


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with Unfinished(tmp_path, SETTINGS), pytest.raises(UserError, match=r"process \d+ on .* is preparing"):
        Unfinished(tmp_path, SETTINGS)
    fill(tmp_path, chunk(1))


def test_meta_comes_last_and_the_journal_goes(tmp_path: Path) -> None:
    with Unfinished(tmp_path, SETTINGS) as folder:
        folder.append(chunk(1))
        assert folder.finish({"images": 2}) == {"images": 2}
    assert set(files(tmp_path)) == {"images.npy", "meta.json"}
    assert json.loads((tmp_path / "meta.json").read_text()) == {"images": 2}


def test_other_errors_of_the_disk_stay_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Unfinished(tmp_path, SETTINGS) as folder:

        def broken(descriptor: int) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "fsync", broken)
        with pytest.raises(OSError, match="Input/output error"):
            folder.append(chunk(1))
