import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from raw_archive import SETTINGS, N, archive_records, content, make_archive

from imitate.config.digests import sha256
from imitate.data import manifest
from imitate.data.index import fingerprint
from imitate.data.records import Excluded, Record
from imitate.data.writer import Archive, Engine, write_folder
from imitate.doctor.checks import Check
from imitate.doctor.prepared import examine_prepared, excluded
from imitate.errors import UserError


def write(out: Path, archive: Archive, *, mode: str = "clean") -> Path:
    """Twice, so that it has two manifests; each patient in one split, two shards and one."""
    given = [
        replace(each, split="train" if int(each.patient[1:]) % 2 else "test") if isinstance(each, Record) else each
        for each in archive_records(archive.root)
    ]
    settings = SETTINGS.model_copy(update={"mode": mode})
    write_folder(given[:30], out, settings, archive=archive, engine=Engine(workers=1))
    write_folder(given, out, settings, archive=archive, engine=Engine(workers=1), append=True)
    return out


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folder")
    (folder / "raw").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "ROWS", 60)
        return write(folder / "out", make_archive(folder / "raw"))


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "out"))


def examined(path: Path) -> dict[str, Check]:
    return {finding.what: finding for finding in examine_prepared(path)}


def test_a_sound_folder(written: Path) -> None:
    before = content(written)
    found = examined(written)
    assert {finding.state for finding in found.values()} == {"ok"}
    assert found["folder"].found == "126 images of 24 px from table, mode clean"
    assert (found["shards"].found, found["manifests"].found) == ("4, each as written", "2, each as written")
    assert found["text"].found.endswith("% have impression") and found["language"].found == "118 fr"
    assert content(written) == before


def test_what_is_excluded_is_listed(written: Path) -> None:
    listed = list(excluded(written))
    counts = json.loads((written / "index.json").read_text())["excluded"]
    assert {reason: sum(each == reason for _, each in listed) for reason in counts} == counts
    assert len(listed) == sum(counts.values()) == N + 3 - 126
    assert ("row 11", "no split") in listed
    assert {Path(place).name for place, reason in listed if reason == "missing file"} == {"150.png", "152.png"}
    with pytest.raises(UserError, match="has no manifest"):
        list(excluded(written.parent))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garble(path: Path) -> None:
    path.write_bytes(b"{}" + path.read_bytes()[:50])


@pytest.mark.parametrize(
    ("name", "damage", "what", "message"),
    [
        ("shards/00001.npy", flip, "shards", "00001.npy changed since it was written: prepare it again"),
        ("shards/00001.npy", cut, "shards", "00001.npy is not a complete array"),
        ("shards/00002.masks.npy", empty, "shards", "00002.masks.npy is not a complete array"),
        ("shards/00000.parquet", cut, "shards", "00000.parquet is not a complete table"),
        ("shards/00003.parquet", Path.unlink, "shards", "00003.parquet is missing"),
        ("shards/00000.excluded.parquet", flip, "shards", "00000.excluded.parquet changed"),
        ("manifest-1.parquet", cut, "manifests", "is damaged"),
        ("manifest-1.parquet", Path.unlink, "manifests", "manifests other than those of index.json"),
        ("manifest.parquet", empty, "manifests", "is damaged"),
        ("index.json", garble, "folder", "index.json ("),
        ("index.json", Path.unlink, "folder", "is incomplete: run the same `imitate prepare` again"),
    ],
)
def test_damage_is_one_line(name: str, damage: Callable[[Path], object], what: str, message: str, folder: Path) -> None:
    damage(folder / name)
    broken = [finding for finding in examine_prepared(folder) if finding.state == "broken"]
    assert [finding.what for finding in broken] == [what]
    assert message in broken[0].found and "\n" not in broken[0].found


def test_an_array_of_another_shape_is_named(folder: Path) -> None:
    np.save(folder / "shards/00001.npy", np.load(folder / "shards/00001.npy")[:5])
    assert "00001.npy is not a complete array of uint8 " in examined(folder)["shards"].found
    np.savez(folder / "shards/00001.npz", np.zeros(9))
    (folder / "shards/00001.npz").replace(folder / "shards/00001.npy")
    assert "00001.npy is not a complete array of uint8 " in examined(folder)["shards"].found


@pytest.mark.parametrize(
    "change",
    [
        {"parts": None}, {"parts": [{}]}, {"shards": [{"name": "../x", "rows": 1, "sha256": {}}]}, {"notes": []},
        {"shards": [{"name": "00000", "rows": -1, "sha256": {}}]}, {"traits": {}}, {"fingerprint": None}, {"format": 3},
    ],
)  # fmt: skip
def test_an_index_of_other_values_is_one_line(change: dict[str, object], folder: Path) -> None:
    index = json.loads((folder / "index.json").read_text()) | change
    (folder / "index.json").write_text(json.dumps(index))
    (found,) = examine_prepared(folder)
    assert (found.state, found.what) == ("broken", "folder") and "index.json is damaged: " in found.found


def test_tables_that_fit_their_index_and_nothing_else_are_broken(folder: Path) -> None:
    index, path = json.loads((folder / "index.json").read_text()), folder / "shards/00001.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["labels"]).append_column("labels", [[[0.0]] * len(table)]), path)
    index["shards"][1]["sha256"][path.name] = sha256(path)
    index["fingerprint"] = fingerprint(index["settings"], index["shards"])
    (folder / "index.json").write_text(json.dumps(index))
    (broken,) = [finding for finding in examine_prepared(folder) if finding.state == "broken"]
    assert broken.what == "tables" and broken.found.startswith("do not have the content of a prepared folder (")


def test_another_manifest_is_noticed(folder: Path) -> None:
    path = folder / "manifest.parquet"
    table, metadata = pq.read_table(path), pq.read_metadata(path).metadata
    changed = table.set_column(table.schema.get_field_index("sex"), "sex", [["M"] * len(table)])
    with pq.ParquetWriter(path, changed.schema) as file:
        file.write_table(changed, row_group_size=60)
        file.add_key_value_metadata({key: metadata[key] for key in (b"written", b"described")})
    assert examined(folder)["manifests"].found == "manifest.parquet is damaged: prepare it again"


def test_a_changed_index_is_noticed(folder: Path) -> None:
    index = json.loads((folder / "index.json").read_text())
    index["settings"]["classes"].reverse()
    (folder / "index.json").write_text(json.dumps(index))
    assert examined(folder)["fingerprint"].state == "broken"


@pytest.mark.parametrize(("mode", "state"), [("clean", "broken"), ("paper", "warn")])
def test_shared_patients_are_the_published_way_alone(mode: str, state: str, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    archive = make_archive(tmp_path / "raw")
    settings = SETTINGS.model_copy(update={"mode": mode})
    some = [each for each in archive_records(archive.root) if not isinstance(each, Excluded)][:9]
    write_folder(some, tmp_path / "out", settings, archive=archive, engine=Engine(workers=1))
    assert examined(tmp_path / "out")["patients"].state == state


def test_a_folder_of_the_first_format_is_opened(tmp_path: Path) -> None:
    table = pd.DataFrame({"image_id": ["a", "b"]})
    table.to_parquet(tmp_path / "table.parquet")
    np.save(tmp_path / "images.npy", np.zeros((2, 16, 16), np.uint8))
    meta = {"format_version": 1, "size": 16, "fit": "pad", "fingerprint": "ab"}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    assert examined(tmp_path)["folder"].state == "warn"
    assert examined(tmp_path)["folder"].found.startswith("2 images in the format of version 0.1: they can be read")
    cut(tmp_path / "images.npy")
    assert examined(tmp_path)["folder"].state == "broken"
    assert "images.npy has 540 bytes, not 640: copy it again" in examined(tmp_path)["folder"].found


def test_notes_repeated_images_and_ids_that_name_no_patients_are_warned_of(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    archive = replace(make_archive(tmp_path / "raw"), traits={"masks": True, "patients": "images"})
    some = [each for each in archive_records(archive.root) if isinstance(each, Record)][:9]
    homes = ("train", "test", "val", "test", "test", "test", "train", "train", "train")
    copies = {1: 0, 4: 2, 7: 6, 5: 4}  # 0 in test, 2 in test twice, 6 in its own split; 3 is black, 5 was damaged
    some = [
        replace(each, split=split, patient=each.image_id, image=some[copies.get(place, place)].image, notes=("odd",))
        for place, (each, split) in enumerate(zip(some, homes, strict=True))
    ]
    settings = SETTINGS.model_copy(update={"percentiles": (5, 95)})
    found = write_folder(some, tmp_path / "out", settings, archive=archive, engine=Engine(workers=1))
    assert (found["notes"], found["shared"], found["settings"]["percentiles"]) == ({"odd": 8}, 1 + 1, [5, 95])
    checks = examined(tmp_path / "out")
    assert checks["notes"] == Check("warn", "notes", "8 x odd")
    assert checks["same pixels"].state == "warn" and checks["same pixels"].found.startswith("2 are in train or val and")
    assert checks["patient ids"].state == "warn"
