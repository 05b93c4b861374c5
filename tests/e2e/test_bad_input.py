"""Bad input at the command line: what the user sees is one clear line, or a count with its reason."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from folders import edit_rows, write_folder

from imitate.cli import main
from imitate.commands.synthesize import synthesize
from imitate.data.corpus import Corpus

Spoil = Callable[[Path], None]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path], Path]:
    """A copy of a source's synthetic archive."""
    made: dict[str, Path] = {}

    def copy(source: str, out: Path) -> Path:
        if source not in made:
            made[source] = tmp_path_factory.mktemp("archive") / source
            synthesize(source, out=made[source], n=24)
        return Path(shutil.copytree(made[source], out))

    return copy


def edit(name: str, pattern: str, new: str) -> Spoil:
    """In the table of this name, the first that matches becomes ``new``."""

    def spoil(raw: Path) -> None:
        text, count = re.subn(pattern, new, (raw / name).read_text(), count=1, flags=re.MULTILINE)
        assert count == 1, f"nothing in {name} matches {pattern}"
        (raw / name).write_text(text)

    return spoil


REFUSED: list[tuple[str, Spoil, str]] = [
    ("chexpert", edit("train.csv", r",1\.0(?=[,\n])", ",3.0"), r"train\.csv: column '.*' holds '3\.0' in 1 rows: expected 1, 0, -1"),
    ("open-i", edit("openi_gld_std14.csv", ",1(?=[,\n])", ",2"), r"column '.*' holds 2, 1 such labels: expected 1, 0 or"),
    ("object-cxr", edit("train.csv", r"^(.*\.jpg,.*)$", r"\1\n\1"), r"train\.csv lists 1 ids more than once, first '.*': remove"),
    ("chestxray14", edit("test_list.txt", r"(?s).*", "other.png"), "split 'test' is empty .*: too few patients, or a list is"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "spoil", "reported"), REFUSED, ids=["label", "label of another table", "duplicate id", "empty split"]
)
def test_a_table_that_cannot_be_right_is_refused(
    source: str,
    spoil: Spoil,
    reported: str,
    archive: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    raw = archive(source, tmp_path / "raw")
    spoil(raw)
    capsys.readouterr()
    assert main(["prepare", source, "--raw", str(raw), "--out", str(tmp_path / "out"), "--size", "32"]) == 2
    line = capsys.readouterr().err
    assert re.match(rf"imitate prepare: .*{reported}", line) and line.count("\n") == 1
    assert not (tmp_path / "out" / "meta.json").exists()


EXCLUDED: list[tuple[str, Spoil, str]] = [
    ("rsna", edit("stage_2_train_labels.csv", r",[\d.]+(,[\d.]+,[\d.]+,[\d.]+,1)$", r",2000\1"), "excluded: box outside the image"),
    ("siim", edit("train-rle.csv", r",\s*\d+ .*$", ",1048570 100"), "excluded: run lengths exceed the image"),
    ("object-cxr", edit("train.csv", r",[012] .*$", ",0 9000 9000 9100 9100"), "box excluded: outside the image"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "spoil", "reported"), EXCLUDED, ids=["box", "run lengths", "box of no frame"])
def test_a_record_that_cannot_be_right_is_excluded_and_counted(
    source: str,
    spoil: Spoil,
    reported: str,
    archive: Callable[..., Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    raw = archive(source, tmp_path / "raw")
    spoil(raw)
    with caplog.at_level("INFO"):
        command = [
            "prepare",
            source,
            "--raw",
            str(raw),
            "--out",
            str(tmp_path / "out"),
            "--size",
            "32",
            "--workers",
            "1",
        ]
        assert main(command) == 0
    assert [record.getMessage() for record in caplog.records].count(f"        1  {reported}") == 1


def measured(folder: Path, out: Path, *options: str) -> int:
    command = ["evaluate", "linear-classification", "--model", "pixels", "--data", str(folder), "--out", str(out)]
    return main([*command, "--resamples", "10", *options])


@pytest.mark.parametrize(
    ("options", "reported"),
    [
        (["--settings", "split=5x200"], r"has no images in split '5x200'; it has \{'train': 24"),
        (["--fraction", "0.5", "--settings", "path=augmented"], "12 training images make no batch of 48: raise --fraction or"),
        (["--fraction", "0.01"], "fraction 0.01 of 12 patients is less than one patient: use at least 0.083"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_reported(
    options: list[str], reported: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert measured(write_folder(tmp_path / "folder"), tmp_path / "r.json", *options) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.match(f"imitate evaluate: .*{reported}", line)
    assert not (tmp_path / "r.json").exists()


def test_a_class_with_one_label_only_is_reported_as_undefined(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = write_folder(tmp_path / "folder")
    data = Corpus.open(folder)
    tested = data.table["split"] == "test"
    edit_rows(folder, labels=[[x[0], 0 if test else x[1]] for x, test in zip(data.labels, tested, strict=True)])
    assert measured(folder, tmp_path / "r.json") == 0
    shown = capsys.readouterr().out
    (row,) = [line for line in shown.splitlines() if line.startswith("  Right")]
    assert set(row.split()[1:]) == {"-"}
    (row,) = [line for line in shown.splitlines() if "undefined and left out: Right" in line]
    assert "auroc" in row
