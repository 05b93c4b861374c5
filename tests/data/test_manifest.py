import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from imitate.data import changes, manifest
from imitate.data.annotations import Box, RunLengths, Shape
from imitate.data.changes import Changes, Seen, added_rows, image_ids, manifest_rows
from imitate.data.manifest import Layout, Manifests, Written, escape, row_digest, unescape, write_manifest
from imitate.data.records import Excluded, Record

ROOT = Path("/archive")
LAYOUT = Layout(ROOT, ("Edema", "Fracture"))
FULL = Record(
    image_id="id", image=ROOT / "a/1.zip", patient="p", study="s", member="x/1.png", split="5x200", projection="PA",
    findings="Ombre à gauche.", impression="Stable.", language="fr", labels={"Edema": 1.0, "Fracture": 0.0},
    annotations=(
        Box("Edema", 1, 2, 3, 4, phrase="left", reader="R1", reference_size=(10, 20)),
        RunLengths("Fracture", "3 4", (5, 6)),
        Shape("Edema", "polygon", ((0.5, 1.0), (2.0, 3.0), (4.0, 5.0))),
    ),
    annotated=True, sex="F", age=63.5, scanner="A", extra={"b": "2", "a": "1"}, invert=False, window=(0.5, 2.0),
    notes=("odd",),
)  # fmt: skip


def plain(number: int, **fields: object) -> Record:
    return replace(Record(str(number), ROOT / f"{number}.png", "p", "s"), **fields)


def write(path: Path, records: Iterable[Record | Excluded], projections: tuple[str, ...] | None = None) -> Written:
    return write_manifest(manifest_rows(records, LAYOUT, projections), path, described={"settings": {"size": 16}})


@pytest.mark.parametrize("record", [FULL, plain(1), plain(2, findings="  ", age=7, image=Path("/elsewhere/2.png"))])
def test_a_record_comes_back_as_it_was(record: Record, tmp_path: Path) -> None:
    write(tmp_path / "manifest.parquet", [record])
    with Manifests.of(tmp_path) as found:
        (back,) = found.records(0, LAYOUT)
        (row,) = found.rows(0)
    blank = record.findings is not None and not record.findings.strip()
    assert back == replace(record, findings=None if blank else record.findings)
    assert row["digest"] == row_digest(row) == row_digest(LAYOUT.to_row(record))
    assert row["image"] == {"id": "a/1.zip", "1": "1.png"}.get(record.image_id, "/elsewhere/2.png")


def test_the_digest_sees_every_field(tmp_path: Path) -> None:
    others = {
        "image_id": "j", "image": ROOT / "b", "patient": "q", "study": "t", "member": "y", "split": "val",
        "projection": "AP", "findings": "F", "impression": None, "language": "en", "labels": {"Edema": 0.0},
        "annotations": (), "annotated": None, "sex": "M", "age": None, "scanner": "", "extra": {}, "invert": True,
        "window": None, "notes": (),
    }  # fmt: skip
    assert set(others) == set(Record.__slots__) - {"originals"}  # counted, not stored
    marks = {row_digest(LAYOUT.to_row(replace(FULL, **{name: value}))) for name, value in others.items()}
    assert len(marks | {row_digest(LAYOUT.to_row(FULL))}) == len(others) + 1


@pytest.mark.parametrize("name", ["a\udcffb.png", "\ud800", "a\0b", "plain ü"])
def test_any_file_name_survives(name: str) -> None:
    assert unescape(escape(name)) == name
    escape(name).encode()


def test_names_that_are_not_unicode_can_be_opened(tmp_path: Path) -> None:
    try:
        (tmp_path / "a\udcff.png").write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes Unicode only")
    layout = Layout(tmp_path, ())
    records = [Record(name, tmp_path / name, "p", "s") for name in ("a\udcff.png", "a\udcfe.png", "b")]
    write_manifest(manifest_rows(records, layout, None), tmp_path / "manifest.parquet", described={})
    with Manifests.of(tmp_path) as found:
        first, last = found.records(0, layout)
        assert (first.image_id, last.image_id) == ("a?.png", "b")
        assert first.image.read_bytes() == b"x"
        assert found.written[0].excluded == {"duplicate image id": 1}  # as stored, the second has the first one's id


def test_what_is_not_used_has_its_reason(tmp_path: Path) -> None:
    projections = ("PA", "AP")
    given = [
        plain(1, projection="PA"), plain(2, projection="LATERAL"), plain(1, projection="AP"),
        plain(3, projection="FRONTAL"), plain(4), Excluded("row 5", "no report"),
    ]  # fmt: skip
    written = write(tmp_path / "manifest.parquet", given, projections)
    assert (written.records, written.excluded) == (
        2, {"duplicate image id": 1, "no report": 1, "projection not selected": 2},
    )  # fmt: skip
    with Manifests.of(tmp_path) as found:
        rows = [(row["image_id"], row["source_place"], row["excluded"]) for row in found.rows(0)]
    assert rows[0] == ("1", None, None) and rows[-1] == (None, "row 5", "no report")


def test_labels_are_among_the_classes() -> None:
    with pytest.raises(AssertionError, match="Mass"):
        LAYOUT.to_row(plain(1, labels={"Mass": 1.0}))


def test_row_groups_are_the_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "ROWS", 4)
    for name, numbers in (("manifest", range(10)), ("manifest-1", range(10, 15)), ("manifest-10", range(15, 16))):
        write(tmp_path / f"{name}.parquet", map(plain, numbers))
    write(tmp_path / "manifest-2.parquet", [plain(99)])
    with Manifests.of(tmp_path) as found:
        assert [path.stem for path in found.paths] == ["manifest", "manifest-1", "manifest-2", "manifest-10"]
        assert [found.length(shard) for shard in range(found.shards)] == [4, 4, 2, 4, 1, 1, 1]
        assert [found.part(shard) for shard in range(found.shards)] == [0, 0, 0, 1, 1, 2, 3]
        ids = [record.image_id for shard in range(found.shards) for record in found.records(shard, LAYOUT)]
    assert ids == [*map(str, range(15)), "99", "15"]


def test_the_file_says_what_it_holds(tmp_path: Path) -> None:
    first, second = (write(tmp_path / f"{name}.parquet", map(plain, range(5))) for name in "ab")
    third = write(tmp_path / "c.parquet", [plain(0, sex="F"), *map(plain, range(1, 5))])
    assert first == second and first.sha256 != third.sha256
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    metadata = pq.read_metadata(tmp_path / "a.parquet").metadata
    assert json.loads(metadata[b"described"]) == {"settings": {"size": 16}}
    with Manifests([tmp_path / "a.parquet"]) as found:
        assert found.written == [first]


def test_seen_is_a_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "RECENT", 50)
    generator, seen, reference = np.random.default_rng(0), Seen(), set()
    for _ in range(100):
        texts = [str(number) for number in generator.integers(0, 3000, 37)]
        expected = []
        for text in texts:
            expected.append(text not in reference)
            reference.add(text)
        assert seen.add(texts) == expected and len(seen) == len(reference)
    assert len(seen._blocks) < 8


def test_changes_are_found_in_any_order(tmp_path: Path) -> None:
    write(tmp_path / "old-a", [*map(plain, range(6)), Excluded("x", "why")])
    write(tmp_path / "old-b", map(plain, range(6, 9)))
    new: list[Record | Excluded] = [
        plain(8),
        plain(11),
        plain(3, sex="F"),
        plain(0),
        Excluded("x", "why"),
        plain(10),
        Excluded("y", "why"),
    ]
    write(tmp_path / "new", [*new, *map(plain, range(4, 7))])
    with Manifests([tmp_path / "old-a", tmp_path / "old-b"]) as old, Manifests([tmp_path / "new"]) as now:
        found = Changes.between(old, now)
        assert image_ids(now, found.changed) == ["3"]
        assert image_ids(old, found.vanished) == ["1", "2", "7"]
        added = [row["image_id"] or row["source_place"] for row in added_rows(now, found)]
        assert added == ["11", "10", "y"]
        same = Changes.between(now, now)
    assert not len(same.changed) and not len(same.vanished) and not same.added.any() and not same.added_excluded.any()
