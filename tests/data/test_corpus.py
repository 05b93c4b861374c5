"""Prepared folders as one corpus: what is read is what was written, whichever way, and what is damaged is reported."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from folders import SHARD, edit_index, edit_rows, in_memory, write_folder, write_shards

from imitate.data.corpus import Corpus
from imitate.data.folder import Folder
from imitate.errors import UserError
from imitate.names import SECTIONS

BOXES = [[{"label": "Edema", "x": float(i), "y": 1.0, "width": 2.0, "height": 3.0}] * (i % 3) for i in range(40)]


def pixels(n: int = 40, size: int = 36) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (n, size, size), dtype=np.uint8)


def folder(root: Path, images: np.ndarray, **columns: object) -> Path:
    numbers = range(len(images))
    table = pd.DataFrame({"image_id": [f"i{i}" for i in numbers], "patient": [f"p{i // 2}" for i in numbers]})
    return write_shards(root, table.assign(study=table["patient"], split="train", **columns), images)


@pytest.mark.parametrize(
    "rows",
    [5, -1, np.int64(17), slice(None), slice(30, 2, -3), np.array([39, 0, 16, 16, 15]), [3, 1], np.arange(40) % 3 == 0],
)
def test_rows_of_several_shards_are_those_of_one_array(tmp_path, rows):
    images = pixels()
    data = Corpus.open(write_shards(tmp_path / "data", pd.DataFrame({"image_id": map(str, range(40)), "patient": "p",
                                    "study": "s", "split": "train"}), images, masks=images // 128))  # fmt: skip
    assert len(data.columns.folder.shards) == 3 and len(data) == 40
    np.testing.assert_array_equal(data.images[rows], images[rows])
    np.testing.assert_array_equal(data.masks[rows], (images // 128)[rows])
    assert data.images.shape == images.shape and data.images.dtype == np.uint8


def test_a_row_that_is_not_there_is_an_index_error(tmp_path):
    data = Corpus.open(write_folder(tmp_path / "data"))
    with pytest.raises(IndexError):
        data.images[40]


def test_more_shards_than_a_process_may_open_files(tmp_path):
    images = np.arange(1200, dtype=np.uint8).reshape(-1, 1, 1).repeat(16, 1).repeat(16, 2)
    root = folder(tmp_path / "data", images[:1])
    template = pq.read_table(root / "shards/00000.parquet")
    for number, image in enumerate(images):
        np.save(root / "shards" / f"{number:05d}.npy", image[None])
        row = template.set_column(0, template.schema.field(0), pa.array([f"i{number}"]))
        pq.write_table(row, root / "shards" / f"{number:05d}.parquet")
    edit_index(root, shards=[{"name": f"{number:05d}", "rows": 1} for number in range(1200)], images=1200)
    data = Corpus.open(root)
    before = len(list(Path("/proc/self/fd").iterdir()))
    np.testing.assert_array_equal(data.images[:], images)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


def test_only_light_columns_are_in_memory_and_texts_are_read_from_their_shards(tmp_path, monkeypatch):
    data, read = Corpus.open(write_folder(tmp_path / "data")), []
    whole = in_memory(data)
    original = Folder.read
    monkeypatch.setattr(
        Folder, "read", lambda self, number, names: read.append(number) or original(self, number, names)
    )
    assert not {*SECTIONS, "labels", "boxes"} & set(data.table)
    rows = np.array([38, 2, 33, 2])
    assert data.text("findings", rows).tolist() == whole.table["findings"].iloc[rows].tolist()
    assert data.text("findings", rows).index.tolist() == rows.tolist() and set(read) == {0, 2}
    parts = list(data.texts("report"))
    assert [len(part) for part in parts] == [SHARD, SHARD, 8]
    pd.testing.assert_series_equal(pd.concat(parts), whole.text("report"), check_names=False)
    pd.testing.assert_frame_equal(data.reports(), whole.table[list(SECTIONS)])
    assert all(np.array_equal(data.has(name), whole.text(name).notna()) for name in (*SECTIONS, "report"))


def test_labels_and_boxes(tmp_path):
    labels = [None if i == 20 else [float(i % 2), float("nan")] for i in range(40)]
    data = Corpus.open(folder(tmp_path / "data", pixels(), labels=pd.Series(labels, dtype=object), boxes=BOXES))
    with pytest.raises(UserError, match="has no labels"):
        _ = data.labels
    edit_index(data.root, classes=["A", "B"])
    data = Corpus.open(data.root)
    expected = np.array([[np.nan, np.nan] if each is None else each for each in labels], np.float32)
    np.testing.assert_array_equal(data.labels, expected)
    assert [box._asdict() | {"phrase": "", "reader": ""} for box in data.boxes(38)] == [
        {**box, "phrase": "", "reader": "", "reference_size": None} for box in BOXES[38]
    ]
    assert data.box_counts().tolist() == [len(each) for each in BOXES] == [len(data.boxes(row)) for row in range(40)]
    edit_index(data.root, classes=["A", "B", "C"])
    with pytest.raises(UserError, match="not every row has 3 label values"):
        _ = Corpus.open(data.root).labels


def first_format(root: Path, data: Corpus) -> Path:
    """The same folder as format 1 had it."""
    whole = in_memory(data)
    root.mkdir()
    np.save(root / "images.npy", whole.images)
    old = whole.table.rename(columns={"projection": "view"}).drop(columns=["annotated", "sex", "age"])
    old.to_parquet(root / "table.parquet")
    meta = {"format_version": 1, "source": "test", "size": 36, "fit": "pad", "mode": "clean", "images": 40}
    (root / "meta.json").write_text(json.dumps({**meta, "classes": ["Left", "Right"], "fingerprint": "old"}))
    return root


def test_format_1_is_one_shard(tmp_path):
    new = Corpus.open(write_folder(tmp_path / "new"))
    old = Corpus.open(first_format(tmp_path / "old", new))
    assert (old.resize, old.traits, old.classes, old.fingerprint) == ("letterbox", {}, ["Left", "Right"], "old")
    np.testing.assert_array_equal(old.images[:], new.images[:])
    np.testing.assert_array_equal(old.labels, new.labels)
    pd.testing.assert_frame_equal(old.table, new.table)
    pd.testing.assert_frame_equal(old.reports(), new.reports())


def shard(root: Path, end: str = ".parquet") -> Path:
    return root / "shards" / f"00001{end}"


def other_table(root: Path, **columns: pa.Array) -> None:
    table = pq.read_table(shard(root))
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.remove_column(place) if values is None else table.set_column(place, name, values)
    pq.write_table(table, shard(root))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGE = {
    "does not exist": lambda root: shutil.rmtree(root),
    r"is incomplete \(run the same `imitate prepare` again\)": lambda root: (root / "index.json").unlink(),
    "has format 3, not 2": lambda root: edit_index(root, format=3),
    "index.json: fingerprint": lambda root: edit_index(root, fingerprint=7),
    r"shards.0.name = '../../x'": lambda root: edit_index(root, shards=[{"name": "../../x", "rows": 1}]),
    "cannot read .*index.json": lambda root: (root / "index.json").write_text("{"),
    "must hold an object, not list": lambda root: (root / "index.json").write_text("[]"),
    "00001.npy has 20863 bytes, not 20864": lambda root: cut(shard(root, ".npy")),
    "00001.npy is missing": lambda root: shard(root, ".npy").unlink(),
    "00001.parquet is missing": lambda root: shard(root).unlink(),
    "cannot read .*00001.parquet": lambda root: shard(root).write_bytes(b"PAR1" * 9),
    "00001.parquet has 5 rows, not 16": lambda root: pq.write_table(pq.read_table(shard(root))[:5], shard(root)),
    "00001.parquet lacks the column patient": lambda root: other_table(root, patient=None),
    "00001.parquet: 16 rows have no image_id": lambda root: other_table(root, image_id=pa.nulls(16, pa.string())),
    "00001.parquet is not a table of a prepared folder": lambda root: other_table(root, study=pa.array([[1]] * 16)),
    "bytes, too many for 16 rows": lambda root: other_table(
        root, findings=pa.array([f"{i}" * 2**18 for i in range(16)])
    ),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_what_is_wrong_with_a_folder_is_one_line(tmp_path, message):
    root = write_folder(tmp_path / "data")
    DAMAGE[message](root)
    with pytest.raises(UserError, match=message):
        Corpus.open(root)


def test_another_size_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"holds images of 36 px, but this model needs 256: .* --size 256"):
        Corpus.open(write_folder(tmp_path / "data"), size=256)


def test_pixels_of_another_shape_are_an_error_when_they_are_read(tmp_path):
    root = write_folder(tmp_path / "data")
    np.save(shard(root, ".npy"), np.zeros((16 * 36, 36, 1), np.uint8))
    data = Corpus.open(root)
    assert data.images[:16].any()
    with pytest.raises(UserError, match="holds uint8 576 x 36 x 1, not uint8 16 x 36 x 36"):
        data.images[16]


@pytest.fixture
def projected(tmp_path):
    root = folder(tmp_path / "data", pixels(), projection=["PA", "LATERAL", "AP", ""] * 10, boxes=BOXES)
    edit_index(root, traits={"projections": ["PA", "AP"]})
    return root


def test_a_folder_selects_its_projections_and_a_recipe_others(projected):
    usual = Corpus.open(projected)
    assert usual.table["image_id"].tolist() == [f"i{i}" for i in range(0, 40, 2)]
    np.testing.assert_array_equal(usual.images[[1, 19]], pixels()[[2, 38]])
    assert [len(usual.boxes(row)) for row in range(20)] == [len(BOXES[i]) for i in range(0, 40, 2)]
    assert usual.fingerprint == usual.meta["fingerprint"] == "test-40-36" and not usual.variant
    same, every = (Corpus.open(projected, projections=names) for names in (["AP", "PA"], ["PA", "AP", "LATERAL", ""]))
    assert same.fingerprint == usual.fingerprint and not same.variant
    assert len(every) == 40 and every.fingerprint not in {usual.fingerprint, every.select(["PA"]).fingerprint}
    assert every.select(["LATERAL"]).table["image_id"].tolist() == [f"i{i}" for i in range(1, 40, 4)]
    with pytest.raises(UserError, match=r"no image of projection 'LL'; there are 10 \(unknown\), 10 AP, 10 LATERAL"):
        Corpus.open(projected, projections=["PA", "LL"])


@pytest.fixture
def three(tmp_path):
    a = write_folder(tmp_path / "a", classes=["Left", "Right"])
    b = write_folder(tmp_path / "b", n=20, seed=1, classes=["Right", "Middle"])
    c = folder(tmp_path / "c", pixels(9), boxes=BOXES[:9])
    return [a, b, c]


def test_several_folders_are_one_corpus(three):
    data, parts = Corpus.open(three), [Corpus.open(root) for root in three]
    assert [part.name for part in data.parts] == ["a", "b", "c"] and len(data) == 69
    np.testing.assert_array_equal(data.images[:], np.concatenate([part.images[:] for part in parts]))
    assert data.table["corpus"].tolist() == ["a"] * 40 + ["b"] * 20 + ["c"] * 9
    assert data.table["patient"].iloc[[0, 40, 68]].tolist() == ["a/patient0000", "b/patient0000", "c/p4"]
    assert data.table["image_id"].iloc[40] == "b/image0000" and data.table["image_id"].is_unique
    assert data.classes == ["Left", "Right", "Middle"]
    np.testing.assert_array_equal(data.labels[:40, :2], parts[0].labels)
    np.testing.assert_array_equal(data.labels[40:60, 1:], parts[1].labels)
    assert np.isnan(data.labels[:40, 2]).all() and np.isnan(data.labels[40:60, 0]).all()
    assert np.isnan(data.labels[60:]).all()
    rows = np.array([68, 3, 45, 0, 45])
    whole = pd.concat([part.text("report") for part in parts], ignore_index=True)
    assert data.text("report", rows).fillna("-").tolist() == whole.iloc[rows].fillna("-").tolist()
    assert data.boxes(62) == parts[2].boxes(2) and data.box_counts().sum() == sum(map(len, BOXES[:9]))
    assert [len(text) for text in data.texts("findings")] == [16, 16, 8, 16, 4, 9]
    assert data.meta["parts"][1]["name"] == "b" and data.meta["images"] == 69 and data.masks is None
    assert data.fingerprint not in {part.fingerprint for part in parts}
    assert data.fingerprint != Corpus.open(three[:2]).fingerprint == Corpus.open(three[:2]).fingerprint
    one = next(data.folds(2, test="test"))
    assert not set(one.table["patient"][one.rows("train")]) & set(one.table["patient"][one.rows("test")])


def test_ids_that_do_not_collide_stay(three):
    assert Corpus.open(three[1:]).table["image_id"].iloc[0] == "image0000"


def test_folders_that_do_not_go_together(three, tmp_path, caplog):
    (tmp_path / "other").mkdir()
    edit_index(three[2], resize="letterbox")
    with pytest.raises(UserError, match=r"a has resize stretch, .*c has letterbox: .*--resize"):
        Corpus.open(three)
    with pytest.raises(UserError, match=r"a has size 36, .*small has 16"):
        Corpus.open([three[0], folder(tmp_path / "small", pixels(4, 16))])
    edit_index(three[1], percentiles=[1, 99])
    with pytest.raises(UserError, match="a has percentiles None, .*--percentiles"):
        Corpus.open(three[:2])
    with pytest.raises(UserError, match="two folders are named a"):
        Corpus.open([three[0], write_folder(tmp_path / "other" / "a")])
    edit_index(three[1], tone="linear", percentiles=None)
    Corpus.open(three[:2])
    assert "differ in tone (linear, unknown)" in caplog.text
    with pytest.raises(UserError, match="give at least one"):
        Corpus.open([])


def test_projections_need_not_be_in_every_folder(three):
    edit_rows(three[2], projection=["LATERAL"] * 9)
    data = Corpus.open(three, projections=["LATERAL"])
    assert [len(part) for part in data.parts] == [0, 0, 9] and len(data) == 9
    assert Corpus.open(three).select(["PA"]).table["corpus"].value_counts().to_dict() == {"a": 40, "b": 20}


def test_a_text_in_place_of_a_report_serves_both_sections(three):
    def numbered(data: Corpus) -> pd.Series:
        return pd.Series([None if row % 2 else f"{data.name} {row}" for row in range(len(data))], dtype=object)

    data, before = Corpus.open(three).filled(numbered), Corpus.open(three)
    for section in (*SECTIONS, "report"):
        text = data.text(section)
        assert text.iloc[:60].fillna("-").tolist() == before.text(section).iloc[:60].fillna("-").tolist()
        assert text.iloc[60:].fillna("-").tolist() == ["c 0", "-", "c 2", "-", "c 4", "-", "c 6", "-", "c 8"]
        assert np.array_equal(data.has(section), text.notna())
    assert data.fingerprint != before.fingerprint


def test_in_memory_it_reads_the_same(three):
    data = Corpus.open(three[0])
    whole = in_memory(data)
    np.testing.assert_array_equal(whole.labels, data.labels)
    whole.table.loc[:2, "projection"] = "AP"
    chosen = whole.select(["AP"])
    np.testing.assert_array_equal(chosen.images, data.images[:3])
    assert chosen.text("findings").tolist() == data.text("findings", np.arange(3)).tolist()
