import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from imitate import cli
from imitate.commands import prepare as verbs
from imitate.commands import source_flags
from imitate.commands import synthesize as synthesizing
from imitate.commands.prepare import prepare
from imitate.commands.synthesize import synthesize
from imitate.config import Config
from imitate.data.manifest import Excluded, Record
from imitate.data.prepared import Prepared
from imitate.errors import UserError
from imitate.sources import Options, Source, Traits
from imitate.sources.table import TableColumns


def draw(folder: Path, count: int) -> None:
    for i in range(count):
        Image.fromarray(np.random.default_rng(i).integers(1, 255, (40, 40)).astype(np.uint8)).save(folder / f"{i}.png")


class Drawn(Config):
    raw: Path | None = None
    n: int = 200
    seed: int = 0


class Labelled(Options):
    n: int = 200
    columns: TableColumns = TableColumns()


def records(options: Drawn | Labelled) -> Iterator[Record | Excluded]:
    """A source that draws what it reads, and excludes every fifth."""
    assert options.raw
    draw(options.raw, options.n)
    for i in range(options.n):
        labels = dict.fromkeys(options.columns.labels, 1.0) if isinstance(options, Labelled) else None
        image, split = options.raw / f"{i}.png", "train" if i % 2 else "test"
        record = Record(
            str(i), image, f"p{i}", "s", split=split, projection="AP" if i % 7 else "LATERAL", labels=labels
        )
        yield record if i % 5 else Excluded(f"row {i}", "no report")


@pytest.fixture(autouse=True)
def sources(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {
        "synthetic": Source(records, Drawn, ("Edema",)),
        "open-i": Source(records, Labelled, traits=Traits(projections=("AP",))),
        "table": Source(records, Labelled, lambda options: options.columns.labels),
    }
    for module in (verbs, synthesizing, source_flags):
        monkeypatch.setattr(module, "find_source", known.__getitem__)


def test_the_command_line_prepares(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    command = ["prepare", "open-i", "--raw", str(raw), "--out", str(out), "--size", "72", "--workers", "1", "--n", "20"]
    with caplog.at_level("INFO"):
        assert cli.main(command) == 0
        shutil.rmtree(raw)
        assert cli.main(command) == 0
    assert "complete already" in caplog.text
    data = Prepared.open(out, size=72)
    assert len(data) == 14 and data.meta["source"] == "open-i" and data.meta["options"]["raw"] == str(raw)
    for told in (
        "14 images of 14 patients",
        "7  split: train",
        "4  excluded: no report",
        "2  excluded: projection LAT",
    ):
        assert told in caplog.text


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(UserError, match="^--raw is missing: name the folder that holds the archive of open-i$"):
        prepare("open-i", out=tmp_path / "out")
    with pytest.raises(UserError, match="^open-i: unknown key 'seed'; known: columns, n, raw$"):
        prepare("open-i", out=tmp_path / "out", raw=tmp_path, seed=1)
    for flags, told in (
        (["--workers", "0"], "--workers 0: give 1 or more, or leave it out"),
        (["--size", "8"], "open-i: size = 8: Input should be greater than or equal to 16"),
    ):
        assert cli.main(["prepare", "open-i", "--raw", "x", "--out", str(tmp_path / "out"), *flags]) == 2
        assert capsys.readouterr().err == f"imitate prepare: {told}\n"
    with pytest.raises(SystemExit, match="2"):
        cli.main(["prepare", "open-i", "--raw", "x", "--out", str(tmp_path / "out"), "--seed", "1"])
    assert not (tmp_path / "out").exists()


def test_help_lists_the_options_of_the_source_alone(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["prepare", "table", "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(f"--{flag} " in text for flag in ("out", "size", "fit", "workers", "raw", "image-path", "labels"))
    assert "--seed" not in text


def test_label_columns_become_classes(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    columns = TableColumns(labels=("Edema", "Scoliosis"))
    meta = prepare("table", out=tmp_path / "out", size=16, workers=1, raw=tmp_path / "raw", columns=columns, n=6)
    assert meta["classes"] == ["Edema", "Scoliosis"]
    assert Prepared.open(tmp_path / "out").labels.tolist() == [[1, 1]] * 4


def test_synthetic_needs_no_raw_folder(tmp_path: Path) -> None:
    meta = prepare("synthetic", out=tmp_path / "out", size=16, workers=1, n=7, seed=3)
    assert meta["images"] == 5 and meta["options"] == {"n": 7, "seed": 3}
    assert prepare("synthetic", out=tmp_path / "out", size=16, workers=1, n=7, seed=3) == meta
    with pytest.raises(UserError, match="seed 3, not 4"):
        prepare("synthetic", out=tmp_path / "out", size=16, workers=1, n=7, seed=4)


def test_synthesize_writes_and_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[tuple[Path, int, int]] = []

    def layout(out: Path, *, n: int, seed: int) -> None:
        out.mkdir()
        asked.append((out, n, seed))

    module = ModuleType("imitate.synthetic.layouts")
    monkeypatch.setattr(module, "LAYOUTS", {"open-i": layout}, raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with caplog.at_level("INFO"):
        synthesize("open-i", out=tmp_path / "raw", n=9, seed=4)
    assert asked == [(tmp_path / "raw", 9, 4)]
    assert "200 records" in caplog.text and "40  excluded: no report" in caplog.text
    with pytest.raises(UserError, match="no layout for rsna: choose among open-i"):
        synthesize("rsna", out=tmp_path / "other")
    with pytest.raises(UserError, match="--n 0: give 1 or more images"):
        synthesize("open-i", out=tmp_path / "other", n=0)
