import csv
import gc
import json
import multiprocessing
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imitate.data import chunks, writing
from imitate.data.annotations import Box
from imitate.data.chunks import Preparation
from imitate.data.pixels import read_gray, to_prepared
from imitate.data.prepared import Dropped, Prepared, Record
from imitate.data.writing import fingerprint, write_prepared
from imitate.errors import UserError

SETTINGS = Preparation(source="table", size=24, classes=("Edema", "Fracture"), options={"raw": "/archive"})
N = 150


def stripe(width: int, height: int, place: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[:, place : place + 6] = True
    return mask


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    rng = np.random.default_rng(0)
    for i in range(N):
        gray = rng.integers(1, 255, (40, 32)).astype(np.uint8)
        Image.fromarray(gray * (i % 10 != 3)).save(folder / f"{i}.png")
    (folder / "5.png").write_bytes((folder / "5.png").read_bytes()[:300])
    return folder


def records(raw: Path) -> Iterator[Record | Dropped]:
    """Some masks, from the 40th record on; some boxes, labels, texts; black, broken, absent files; a repeated id."""
    for i in range(N + 3):
        if i % 20 == 11:
            yield Dropped(f"row {i}", "no split")
            continue
        yield Record(
            image_id="7" if i == 77 else str(i),
            image=raw / f"{i}.png",
            patient=f"p{i // 3}",
            study=f"s{i}",
            split=("train", "val", "test")[i % 3],
            view="PA",
            findings=f"Ombre à gauche, {i}." if i % 4 else None,
            impression="" if i % 5 == 0 else f"Stable {i}.",
            labels={"Edema": float(i % 2)} if i % 3 else None,
            boxes=(Box("Edema", 4, 4, 8, 8), Box("Edema", 99, 99, 1, 1))[: i % 3],
            mask=partial(stripe, place=i % 20) if i > 40 and i % 2 else None,
        )


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 4)


@pytest.fixture(scope="module")
def reference(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reference") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK", 4)
        write_prepared(records(raw), out, SETTINGS)
    return out


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_the_folder_opens_and_holds_what_the_records_say(raw: Path, reference: Path) -> None:
    data = Prepared.open(reference, size=24)
    given = {
        record.image_id: record for record in records(raw) if isinstance(record, Record) and record.image_id != "7"
    }
    assert data.meta["images"] == len(data) == len(data.images) == len(data.table["image_id"].unique())
    assert data.classes == ["Edema", "Fracture"] and data.masks is not None
    for row, name in enumerate(data.table["image_id"]):
        if name not in given:
            continue
        record = given[name]
        image, geometry = to_prepared(read_gray(record.image), 24)
        np.testing.assert_array_equal(data.images[row], image)
        mask = geometry.mask(record.mask(32, 40)) if record.mask else np.zeros((24, 24))
        np.testing.assert_array_equal(data.masks[row], mask)
        assert data.has("findings")[row] == bool(record.findings)
        assert data.has("impression")[row] == bool(record.impression)
        if record.findings:
            assert data.text("findings")[row] == record.findings
        assert data.boxes(row) == [box for box in map(geometry.box, record.boxes) if box]
        expected = (record.labels or {}).get("Edema", np.nan)
        np.testing.assert_array_equal(data.labels[row], np.float32([expected, np.nan]))


def test_the_books_balance(raw: Path, reference: Path) -> None:
    meta = json.loads((reference / "meta.json").read_text())
    with (reference / "dropped.csv").open(newline="") as file:
        dropped = list(csv.DictReader(file))
    assert meta["images"] + len(dropped) == sum(1 for _ in records(raw))
    assert meta["dropped"] == {
        "black image": 15,
        "no split": 8,
        "damaged or truncated image": 1,
        "duplicate image id": 1,
        "missing file": 2,
    }
    assert {row["source"] for row in dropped if row["reason"] == "missing file"} == {
        str(raw / "150.png"),
        str(raw / "152.png"),
    }
    table = Prepared.open(reference).table
    assert meta["splits"] == table["split"].value_counts().to_dict()
    assert meta["patients"] == table["patient"].nunique()
    assert meta["boxes_dropped"] == {"outside the image": sum(name % 3 == 2 for name in table["image_id"].astype(int))}
    assert meta["fingerprint"] == fingerprint(reference)
    assert (meta["source"], meta["size"], meta["fit"], meta["mode"]) == ("table", 24, "squash", "clean")
    assert set(files(reference)) == {"images.npy", "masks.npy", "table.parquet", "dropped.csv", "meta.json"}


def test_the_fingerprint_sees_every_part(reference: Path, tmp_path: Path) -> None:
    marks = {fingerprint(reference)}
    for name, place in (("images.npy", -1), ("masks.npy", -1)):
        for path in reference.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        content = bytearray((tmp_path / name).read_bytes())
        content[place] ^= 1
        (tmp_path / name).write_bytes(content)
        marks.add(fingerprint(tmp_path))
    Prepared.open(reference).table.assign(view="AP").to_parquet(tmp_path / "table.parquet")
    marks.add(fingerprint(tmp_path))
    assert len(marks) == 4


def test_a_finished_folder_is_left_as_it_is(
    raw: Path, reference: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in reference.iterdir()}
    with caplog.at_level("INFO"):
        meta = write_prepared(iter(()), reference, SETTINGS)
    assert "complete already" in caplog.text and meta["images"] == len(Prepared.open(reference))
    for other, told in (
        (SETTINGS.model_copy(update={"size": 32}), "size 24, not 32"),
        (
            SETTINGS.model_copy(update={"fit": "pad", "mode": "paper"}),
            'fit "squash", not "pad"; mode "clean", not "paper"',
        ),
        (SETTINGS.model_copy(update={"options": {"raw": "/b"}}), 'raw "/archive", not "/b"'),
    ):
        with pytest.raises(UserError, match=f"was prepared with {told}: choose another --out"):
            write_prepared(records(raw), reference, other)
    assert {path: path.stat().st_mtime_ns for path in reference.iterdir()} == before


def test_no_usable_record_leaves_nothing(tmp_path: Path) -> None:
    useless = [*(Dropped(str(i), "no text") for i in range(9)), Record("a", tmp_path / "absent", "p", "s")]
    with pytest.raises(UserError, match="no usable image in table \\(9 x no text; 1 x missing file\\)"):
        write_prepared(iter(useless), tmp_path / "out", SETTINGS)
    assert not list((tmp_path / "out").iterdir())
    with pytest.raises(UserError, match="yields no record"):
        write_prepared(iter(()), tmp_path / "out", SETTINGS)


def test_memory_does_not_grow_with_the_number_of_records(raw: Path, tmp_path: Path) -> None:
    """In a process of its own: what threads of other tests allocate would be counted too."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        few, many = pool.submit(_peaks, raw / "0.png", tmp_path, (320, 1024)).result()
    assert many - few < 0.3e6  # the images alone are 2.9 MB more, the texts 1.5 MB


def _peaks(image: Path, out: Path, counts: tuple[int, ...]) -> list[int]:
    """The most bytes held while as many records were written."""
    chunks.CHUNK, writing.ROW_GROUP = 32, 64
    settings = Preparation(source="table", size=64)

    def peak(count: int) -> int:
        many = (Record(str(i), image, "p", "s", findings=f"{i:06} " * 300) for i in range(count))
        gc.collect()
        tracemalloc.start()
        write_prepared(many, out / str(count), settings)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(64)  # pays for what is imported on the way
    return [peak(count) for count in counts]


def test_progress_is_logged_where_there_is_no_terminal(
    raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "LOG_EVERY", 0)
    with caplog.at_level("INFO"):
        write_prepared(records(raw), tmp_path / "out", SETTINGS, total=153)
    assert "100 records of 153, 0 min left, " in caplog.text
    assert not any(part in caplog.text for part in (str(raw), ".png", "Stable", "p1"))
