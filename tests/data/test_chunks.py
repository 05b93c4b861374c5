import hashlib
import math
import os
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imitate.data.annotations import Box
from imitate.data.chunks import CHUNK, Preparation, prepare, prepare_all, tasks
from imitate.data.prepared import Dropped, Record
from imitate.errors import UserError

SETTINGS = Preparation(source="table", size=32, classes=("Edema", "Fracture"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    gray = np.random.default_rng(0).integers(1, 255, (80, 64)).astype(np.uint8)
    Image.fromarray(gray).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def left_half(width: int, height: int, value: bool) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[:, : width // 2] = value
    return mask


def test_a_row_says_what_its_record_says(image: Path) -> None:
    record = Record(
        "a", image, "p", "s", split="val", view="PA", findings=" \n", impression="Clear.", labels={"Fracture": 1.0},
        boxes=(Box("Edema", 0, 0, 32, 40), Box("Edema", 64, 0, 9, 9)), mask=partial(left_half, value=True),
    )  # fmt: skip
    (task,) = tasks(iter([record]))
    chunk = prepare(task, SETTINGS)
    (row,) = chunk.rows
    edema, fracture = row.pop("labels")
    assert math.isnan(edema) and fracture == 1
    assert row == {
        "image_id": "a", "patient": "p", "study": "s", "split": "val", "view": "PA",
        "findings": None, "impression": "Clear.",
        "boxes": [{"label": "Edema", "x": 0, "y": 0, "width": 16, "height": 16}],
    }  # fmt: skip
    assert chunk.boxes_dropped == {"outside the image": 1}
    assert chunk.images.shape == (1, 32, 32) and chunk.masks is not None
    np.testing.assert_array_equal(chunk.masks[0], left_half(32, 32, True))


def test_boxes_count_in_the_record_s_frame(image: Path) -> None:
    record = Record("a", image, "p", "s", boxes=(Box("x", 512, 0, 512, 1024),), frame=(1024, 1024))
    (task,) = tasks(iter([record]))
    assert prepare(task, SETTINGS).rows[0]["boxes"] == [{"label": "x", "x": 16, "y": 0, "width": 16, "height": 32}]


def test_unusable_records_are_told_with_their_place(image: Path, tmp_path: Path) -> None:
    records = [
        Record("a", image, "p", "s"),
        Record("b", tmp_path / "absent.png", "p", "s", mask=partial(left_half, value=True)),
        Record("a", image, "p", "s"),
        Dropped("somewhere", "no text"),
    ]
    (task,) = tasks(iter(records))
    chunk = prepare(task, SETTINGS)
    assert [row["image_id"] for row in chunk.rows] == ["a"]
    assert chunk.dropped == [
        (str(tmp_path / "absent.png"), "missing file"), ("a", "duplicate image id"), ("somewhere", "no text")
    ]  # fmt: skip
    assert chunk.masks is not None and not chunk.masks.any()


@pytest.mark.parametrize("mask", [None, partial(left_half, value=True)])
def test_a_chunk_without_usable_records_is_empty(mask: partial | None) -> None:
    (task,) = tasks(iter([Dropped("x", "no text"), Record("a", Path("absent.png"), "p", "s", mask=mask)]))
    chunk = prepare(task, SETTINGS)
    assert chunk.images.shape == (0, 32, 32) and len(chunk.dropped) == 2 and not chunk.rows
    assert (chunk.masks is None) if mask is None else (chunk.masks.shape == (0, 32, 32))


def test_an_unknown_label_is_a_mistake_of_the_source(image: Path) -> None:
    (task,) = tasks(iter([Record("a", image, "p", "s", labels={"Scoliosis": 1.0})]))
    with pytest.raises(AssertionError, match="Scoliosis"):
        prepare(task, SETTINGS)


def test_names_that_are_not_unicode_survive(image: Path) -> None:
    name = os.fsdecode(b"b\xe9ta")
    (task,) = tasks(iter([Record(name, image, "p", "s")]))
    assert prepare(task, SETTINGS).rows[0]["image_id"] == "b?ta"


def test_duplicates_are_found_across_chunks(image: Path) -> None:
    record = Record("same", image, "p", "s")
    chunks = list(tasks(record for _ in range(CHUNK + 2)))
    assert [len(chunk.records) for chunk in chunks] == [CHUNK, 2]
    kept = [record for chunk in chunks for record in chunk.records if isinstance(record, Record)]
    assert len(kept) == 1


def test_digests_follow_fields_and_files_but_not_places(image: Path, tmp_path: Path) -> None:
    def digests(record: Record) -> tuple[str, str]:
        (task,) = tasks(iter([record]))
        chunk = prepare(task, SETTINGS)
        return chunk.fields, chunk.content

    fields, content = digests(Record("a", image, "p", "s"))
    assert content == hashlib.sha256(hashlib.sha256(image.read_bytes()).digest()).hexdigest()
    moved = image.rename(tmp_path / "elsewhere.png")
    assert digests(Record("a", moved, "p", "s")) == (fields, content)
    others = [
        Record("a", moved, "p", "s", findings="x"),
        Record("a", moved, "p", "s", impression="x"),
        Record("a", moved, "p", "s", split="val"),
        Record("a", moved, "p", "s", labels={"Edema": 0.0}),
        Record("a", moved, "p", "s", boxes=(Box("x", 0, 0, 1, 1),)),
        Record("a", moved, "p", "s", frame=(1, 1)),
    ]
    assert len({digests(other)[0] for other in others} | {fields}) == 7
    masks = {digests(Record("a", moved, "p", "s", mask=partial(left_half, value=value))) for value in (True, False)}
    assert len({field for field, _ in masks}) == 1 and len({content for _, content in masks}) == 2
    moved.write_bytes(moved.read_bytes() + b" ")
    assert digests(Record("a", moved, "p", "s"))[1] != content


def test_tasks_are_read_a_few_ahead_only(image: Path) -> None:
    taken = 0

    def endless() -> object:
        nonlocal taken
        while True:
            taken += 1
            yield Record(str(taken), image, "p", "s")

    chunks = prepare_all(tasks(endless()), SETTINGS, workers=1)
    assert len(list(islice(chunks, 2))) == 2
    assert taken == 2 * CHUNK


@pytest.fixture
def lethal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that worker processes can import, with a mask that kills its process."""
    (tmp_path / "lethal.py").write_text("import os\n\ndef die(width, height):\n    os._exit(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_workers_give_the_same_in_order_and_their_death_is_told(image: Path, lethal: Path) -> None:
    records = [Record(str(i), image, "p", "s", findings=str(i)) for i in range(3 * CHUNK + 5)]
    alone = list(prepare_all(tasks(iter(records)), SETTINGS, workers=1))
    together = list(prepare_all(tasks(iter(records)), SETTINGS, workers=2))
    assert len(alone) == len(together) == 4
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.images, other.images)
        assert repr(one[2:]) == repr(other[2:])
    from lethal import die  # type: ignore[import-not-found]

    with pytest.raises(UserError, match="a worker process died"):
        list(prepare_all(tasks(iter([Record("x", image, "p", "s", mask=die)])), SETTINGS, workers=2))
