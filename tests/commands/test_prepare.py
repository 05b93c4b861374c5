import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from pydantic import Field

import imitate
from imitate import cli
from imitate.commands.synthesize import synthesize
from imitate.config import Config
from imitate.data.records import Excluded, Record
from imitate.errors import UserError
from imitate.sources import Options, Source, Traits

N = 20


class Archive(Options):
    n: int = N  # records of the archive
    labels: tuple[str, ...] = ()  # columns
    sections: Path | None = Field(None, description="headers of the reports")


class Made(Config):
    n: int = 7
    seed: int = 0
    raw: Path | None = None


def records(options: Archive | Made) -> Iterator[Record | Excluded]:
    """A source that draws what it reads, and excludes every fifth."""
    assert options.raw is not None
    for i in range(options.n):
        image = options.raw / f"{i}.png"
        if not image.exists():
            pixels = np.random.default_rng(i).integers(1, 255, (40, 40)).astype(np.uint8)
            Image.fromarray(pixels).save(image)
        labels = dict.fromkeys(getattr(options, "labels", ()), 1.0)
        record = Record(str(i), image, f"p{i}", "s", split="train" if i % 2 else "test", labels=labels)
        yield record if i % 5 else Excluded(f"row {i}", "no report")


SOURCES = {
    "archive": Source(records, Archive, classes=lambda options: options.labels, traits=Traits(tone="cxr")),
    "made": Source(records, Made),
}


@pytest.fixture(autouse=True)
def sources(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> Source:
        if name not in SOURCES:
            raise UserError(f"no source {name!r}: choose among {', '.join(SOURCES)}")
        return SOURCES[name]

    monkeypatch.setattr("imitate.sources.find_source", find)
    monkeypatch.setattr("imitate.sources.source_names", lambda: list(SOURCES))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


def command(raw: Path, out: Path, *more: str) -> list[str]:
    return ["prepare", "archive", "--raw", str(raw), "--out", str(out), "--size", "16", "--workers", "1", *more]


def index(out: Path) -> dict:
    return json.loads((out / "index.json").read_text())


def test_the_command_line_prepares(raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "out"
    options = ("--labels", "Edema", "Scoliosis", "--resize", "letterbox", "--n", "15")
    with caplog.at_level("INFO"):
        assert cli.main(command(raw, out, *options)) == 0
        assert cli.main(command(raw, out, *options)) == 0
    found = index(out)
    assert found["images"] == 12 and found["traits"]["tone"] == "cxr"
    settings = {key: found["settings"][key] for key in ("source", "size", "resize", "mode", "classes", "options")}
    assert settings == {
        "source": "archive",
        "size": 16,
        "resize": "letterbox",
        "mode": "clean",
        "classes": ["Edema", "Scoliosis"],
        "options": {"n": 15, "labels": ["Edema", "Scoliosis"]},
    }
    for said in ("12 images of 12 patients", "6  split: train", "3  excluded: no report", "complete already"):
        assert said in caplog.text


def test_an_archive_that_moved_is_the_same_and_a_corrected_file_is_not(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "sections.yaml").write_text("Befund: findings")
    (raw / "labels.csv").write_text("a,b\n")
    options = {"out": tmp_path / "out", "size": 16, "workers": 1, "sections": tmp_path / "sections.yaml"}
    found = imitate.prepare("archive", raw=raw, **options)
    assert found is not None and sorted(found["settings"]["inputs"]) == ["labels.csv", "sections.yaml"]
    moved = shutil.move(raw, tmp_path / "moved")
    assert imitate.prepare("archive", raw=moved, **options) == found
    (tmp_path / "sections.yaml").write_text("Befund: impression")
    with pytest.raises(UserError, match=r"sections\.yaml changed"):
        imitate.prepare("archive", raw=moved, **options)


def test_new_records_are_appended_on_demand(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli.main(command(raw, out)) == 0
    assert cli.main(command(raw, out, "--append")) == 0 and index(out)["images"] == 16


def test_parts_complete_the_folder_together(raw: Path, tmp_path: Path) -> None:
    options = {"raw": raw, "out": tmp_path / "out", "size": 16, "workers": 1}
    assert imitate.prepare("archive", part="2/2", **options) is None
    found = imitate.prepare("archive", part="1/2", **options)
    assert found is not None and found["images"] == 16


def test_a_check_writes_nothing(raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert cli.main(command(raw, tmp_path / "out", "--check")) == 0
    assert "16 usable records; 16 images of a sample decoded" in caplog.text and "4  excluded: no report" in caplog.text
    assert not (tmp_path / "out").exists()


def test_percentiles_are_a_setting(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli.main(command(raw, out, "--percentiles", "5", "95")) == 0
    assert index(out)["settings"]["percentiles"] == [5, 95]
    with pytest.raises(UserError, match=r"percentiles \[5\.0, 95\.0\], not null"):
        imitate.prepare("archive", raw=raw, out=out, size=16)
    assert imitate.prepare("archive", raw=raw, out=tmp_path / "plain", size=16)["settings"]["percentiles"] is None
    assert index(tmp_path / "plain")["fingerprint"] != index(out)["fingerprint"]


def test_what_is_odd_is_counted(raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stray = np.random.default_rng(0).integers(0, 50, (40, 40)).astype(np.uint8)
    stray[0, 0] = 255
    for number in (1, 2, 7):  # 1 and 7 are of train, 2 is of test
        Image.fromarray(stray).save(raw / f"{number}.png")
    with caplog.at_level("INFO"):
        assert cli.main(command(raw, tmp_path / "out", "--check")) == 0
        assert "3  note: low contrast" in caplog.text
        caplog.clear()
        assert cli.main(command(raw, tmp_path / "out")) == 0
    assert "3  note: low contrast" in caplog.text
    assert "1 images are in train or val and, under another name, in another split" in caplog.text
    assert index(tmp_path / "out")["notes"] == {"low contrast": 3} and index(tmp_path / "out")["shared"] == 1


def test_projections_are_selected(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match="no usable image in archive"):
        imitate.prepare("archive", raw=raw, out=out, size=16, projections="LATERAL", workers=1)


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    raw, out = ("--raw", "x"), ("--out", str(tmp_path / "out"))
    for flags, said in (
        (
            ("archive", *out),
            "--raw is missing: give the folder of the archive archive (for the current folder: --raw $PWD)",
        ),
        (("archive", *out, "--raw", ""), "--raw is missing: give the folder of the archive archive"),
        (("archive", *out, *raw, "--workers", "0"), "--workers 0: give 1 or more, or omit it"),
        (("archive", *out, *raw, "--size", "8"), "archive: size = 8: Input should be greater than or equal to 16"),
        (("archive", *out, *raw, "--part", "3"), "--part 3: write it as i/n, such as 3/64"),
        (("archive", *out, *raw, "--part", "0/2"), "--part 0/2: write it as i/n with i from 1 to n"),
        (("archive", *out, *raw, "--percentiles", "95", "5"), "archive: percentiles: give two numbers from 0 to 100"),
        (("archiv", *out), "no source 'archiv': choose among archive, made"),
        ((*out, "archive"), "name the source before --out: imitate prepare SOURCE --raw RAW --out FOLDER"),
    ):
        assert cli.main(["prepare", *flags]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"imitate prepare: {said}") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_source_has_its_own_options_and_refuses_others(capsys: pytest.CaptureFixture) -> None:
    def said(*words: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            cli.main(["prepare", *words])
        assert ended.value.code == code
        return "".join(capsys.readouterr())

    general = ["out", "size", "resize", "projections", "percentiles", "workers", "append", "check", "part", "cluster"]
    assert all(f"--{flag}" in said("archive", "--help") for flag in (*general, "raw", "n", "labels", "sections"))
    assert "records of the archive (default: 20)" in said("archive", "--help")
    assert "headers of the reports (default: None)" in said("archive", "--help")
    assert "--labels" not in said("made", "--help") and "--seed" in said("made", "--help")
    assert "{archive,made}" in said("--help")
    assert "Unrecognized options: --labels" in said("made", "--out", "x", "--labels", "Edema", code=2)


def test_a_source_that_makes_its_images_needs_no_folder(tmp_path: Path) -> None:
    options = {"out": tmp_path / "out", "size": 16, "workers": 1, "seed": 3}
    found = imitate.prepare("made", **options)
    assert found is not None and found["images"] == 5 and found["settings"]["options"] == {"n": 7, "seed": 3}
    assert imitate.prepare("made", **options) == found
    with pytest.raises(UserError, match="seed 3, not 4"):
        imitate.prepare("made", **{**options, "seed": 4})
    with pytest.raises(UserError, match="made: unknown key 'sede'; known: n, raw, seed"):
        imitate.prepare("made", out=tmp_path / "other", sede=3)


def test_synthesize_writes_and_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[tuple[Path, int, int, int]] = []

    def layout(out: Path, *, n: int, seed: int, size: int) -> None:
        out.mkdir()
        asked.append((out, n, seed, size))

    module = ModuleType("imitate.synthetic.layouts")
    monkeypatch.setattr(module, "LAYOUTS", {"archive": layout}, raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with caplog.at_level("INFO"):
        synthesize("archive", out=tmp_path / "raw", n=9, seed=4, size=128)
    assert asked == [(tmp_path / "raw", 9, 4, 128)]
    assert "20 records" in caplog.text and "4  excluded: no report" in caplog.text
    with pytest.raises(UserError, match="no synthetic archive for rsna: choose one of archive"):
        synthesize("rsna", out=tmp_path / "other")
    with pytest.raises(UserError, match="--n 0: give 1 or more images"):
        synthesize("archive", out=tmp_path / "other", n=0)
