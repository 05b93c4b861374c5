import gzip
import math
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from imitate.data.tables import hashed_split, label_value, newest_table, numbers, one_spelling, read_table, split_name
from imitate.errors import UserError


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_ids_survive_as_text_and_only_blanks_are_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,text\n007,NA\n008,\n")
    table = read_table(path, ["id", "text"], text=True)
    assert table["id"].to_list() == ["007", "008"]
    assert table["text"].isna().to_list() == [False, True]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters(tmp_path: Path, delimiter: str) -> None:
    path = write(tmp_path / "a.csv", f'id{delimiter}text\n1{delimiter}"a, b; c\nd"\n')
    assert read_table(path, ["id", "text"]).to_dict("records") == [{"id": 1, "text": "a, b; c\nd"}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "a.csv", "größe,text\n1,Ödem\n".encode(encoding))
    assert read_table(path, ["größe", "text"])["text"].to_list() == ["Ödem"]


def test_content_decides_on_compression(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.csv.gz", "id\n1\n")
    zipped = write(tmp_path / "b.csv", gzip.compress(b"id\n1\n"))
    assert read_table(plain, ["id"])["id"].to_list() == read_table(zipped, ["id"])["id"].to_list() == [1]


def test_only_the_named_columns_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "a, b,c\n1, 2,3\n")
    assert list(read_table(path, ["b"], optional=["c", "d"]).columns) == ["b", "c"]
    assert list(read_table(path, ["b"]).columns) == ["a", "b", "c"]


def test_parquet_as_text(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"id": [7, None], "on": [True, False], "text": ["x", None], "rest": [0, 0]}).to_parquet(path)
    table = read_table(path, ["id", "on", "text"], optional=(), text=True)
    assert table["id"].to_list()[0] == "7"
    assert table["on"].to_list() == ["true", "false"]
    assert table.isna().to_numpy().tolist() == [[False, False, False], [True, False, True]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "id,other\n1,2\n", "lacks column 'text'; its columns are id, other"),
        ("a.csv", "text\n", "has a header but no rows"),
        ("a.csv", "", "is not a readable table"),
        ("a.csv", "text\n1\n1,2,3\n", "is not a readable table"),
        ("a.csv", "text,id\n1,2,3\n1,2,3\n", "its rows have more fields than its header"),
        ("a.csv.gz", gzip.compress(b"text\n" + bytes(range(256)) * 999)[:-20], "cannot be read .*again"),
        ("a.parquet", "text", "is not a readable table"),
        ("a.parquet", b"", "is not a readable table"),
    ],
)
def test_a_bad_table_is_reported_in_one_line(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_table(write(tmp_path / name, content), ["text"])
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_an_absent_table_names_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path / "labels.csv", "a\n")
    with pytest.raises(UserError, match=r"no table reports\.csv in .*: the folder holds labels\.csv"):
        read_table(tmp_path / "reports.csv", [])
    with pytest.raises(UserError, match="does not exist"):
        read_table(tmp_path / "absent" / "reports.csv", [])


def test_the_newest_version_of_a_table(tmp_path: Path) -> None:
    for name in ("t-2.0.0-split.csv.gz", "t-2.1.0-split.csv", "t-2.1.0-split.csv.part"):
        write(tmp_path / name, "a\n")
    assert newest_table(tmp_path, "t-*-split") == tmp_path / "t-2.1.0-split.csv"
    assert newest_table(tmp_path, "t-*-labels") is None


def test_numbers(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": [1, 0], "b": [None, -1.0], "c": ["1", "x"]})
    np.testing.assert_array_equal(
        numbers(table, ["b", "a"], tmp_path, allowed=(1, 0, -1)), np.array([[np.nan, 1], [-1, 0]], np.float32)
    )
    with pytest.raises(UserError, match="not every label is a number"):
        numbers(table, ["c"], tmp_path, allowed=(1, 0))
    with pytest.raises(UserError, match="column 'b' holds -1, 1 such labels: expected 1, 0 or blank"):
        numbers(table, ["a", "b"], tmp_path, allowed=(1, 0))


def test_split_spellings() -> None:
    assert [split_name(word) for word in ("validate", "valid", "val", " Dev ", "TRAIN", "test")] == [
        *["val"] * 4,
        "train",
        "test",
    ]
    words = ("Prüfung", "Pruefung", unicodedata.normalize("NFD", "PRÜFUNG"), "Entraînement", "validación", "tst")
    assert list(map(split_name, words)) == ["test", "test", "test", "train", "val", "test"]
    assert split_name(" ") is split_name(float("nan")) is split_name(None) is None
    with pytest.raises(UserError, match="unknown split 'trian': write train, val or test"):
        split_name("trian")


def test_the_hashed_split_is_80_10_10_and_never_changes() -> None:
    fractions = pd.Series([hashed_split(f"p{number}") for number in range(10_000)]).value_counts(normalize=True)
    assert fractions.to_dict() == pytest.approx({"train": 0.8, "val": 0.1, "test": 0.1}, abs=0.01)
    assert [hashed_split(spelled) for spelled in ("002", "2.0", "0000002")] == [hashed_split("2")] * 3
    pinned = ["train", "train", "val", "train", "train", "test", "test"]
    assert [hashed_split(str(patient)) for patient in range(7)] == pinned


def test_label_words() -> None:
    assert [label_value(each) for each in ("1", "1,0", "1.00", "Yes", "JA", "sí", "true", "Positiv")] == [1.0] * 8
    assert [label_value(each) for each in ("0", "0,0", "no", "Nein", "FALSE", "neg")] == [0.0] * 6
    assert all(math.isnan(label_value(each)) for each in ("-1", "-1.0", "uncertain"))
    assert [label_value(each) for each in ("2", "0.5", "maybe", "inf", "nan")] == [None] * 5


def test_spellings_of_one_id() -> None:
    ids = ["007", "7", "7.0", "p1", "P1", "p 1", "p  1", "8", unicodedata.normalize("NFD", "é"), "é"]
    assert one_spelling(ids) == {
        "007": "7", "7.0": "7", "p1": "P1", "p  1": "p 1", unicodedata.normalize("NFD", "é"): "é"
    }  # fmt: skip
