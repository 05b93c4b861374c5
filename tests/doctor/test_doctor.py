from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imitate.cli import main
from imitate.commands.doctor import doctor
from imitate.doctor import raw
from imitate.errors import UserError
from imitate.sources import BUILT_IN, Options, Source, find_source

COLUMN = ("--image-path", "file")
RAW = [(name, signs) for name in BUILT_IN for signs in find_source(name).signs]


@pytest.mark.parametrize(("source", "signs"), RAW)
def test_a_raw_tree_is_recognised_by_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, signs: tuple[str, ...]
) -> None:
    for sign in signs:
        path = tmp_path / sign.replace("*", "")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with pytest.raises(UserError, match="1 broken: "):
        doctor((tmp_path,))
    assert capsys.readouterr().out.splitlines()[0] == f"raw archive {tmp_path}, {source}"


def test_a_tree_of_several_sources_is_of_the_most_specific(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("train.csv", "valid.csv", "dev.csv", "stage_2_train_labels.csv"):
        (tmp_path / name).touch()
    with pytest.raises(UserError):
        doctor((tmp_path,))
    assert capsys.readouterr().out.splitlines()[0] == f"raw archive {tmp_path}, rsna"


def test_a_tree_that_an_installed_source_claims_too_needs_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = Source(lambda options: iter(()), Options, signs=(("labels.csv",),))
    monkeypatch.setattr(raw, "source_names", lambda: [*BUILT_IN, "outside"])
    monkeypatch.setattr(raw, "find_source", lambda name: outside if name == "outside" else find_source(name))
    (tmp_path / "labels.csv").touch()
    assert raw.recognise(tmp_path) == "outside"
    (tmp_path / "train-rle.csv").touch()
    with pytest.raises(UserError, match="may be of siim or outside: choose its --source"):
        raw.recognise(tmp_path)


def test_options_of_the_source_are_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.arange(1600, dtype=np.uint8).reshape(40, 40)).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("file,patient,findings\na.png,7,Clear.\n")
    assert main(["doctor", str(tmp_path), "--source", "table"]) == 2
    assert "lacks column 'image_path'" in capsys.readouterr().err
    assert main(["doctor", str(tmp_path), "--source", "table", *COLUMN]) == 0
    with pytest.raises(UserError, match="name the source with --source"):
        doctor((tmp_path,), mode="paper")


@pytest.mark.parametrize(("sign", "kind"), [("images.npy", "prepared folder"), ("metrics.jsonl", "run")])
def test_folders_of_this_program_are_recognised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sign: str, kind: str
) -> None:
    (tmp_path / sign).touch()
    code = main(["doctor", str(tmp_path)])
    output = capsys.readouterr()
    assert output.out.startswith(kind)
    assert code == (2 if kind == "prepared folder" else 0)  # incomplete; a run that has just begun
    assert bool(output.err) == bool(code)


def test_the_exit_code_says_what_is_broken_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "stage_2_train_labels.csv").write_text("patientId,x,y,width,height,Target\n")
    (tmp_path / "config.yaml").write_text("training: {epochs: 0}\n")
    assert main(["doctor", str(tmp_path), "--source", "rsna"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("imitate doctor: 1 broken: tables: ")
    assert error.count("\n") == 1
    assert main(["doctor", str(tmp_path), str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("imitate doctor: 2 broken: config.yaml: ")


def test_a_path_that_says_nothing_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not recognised: name its --source"):
        doctor((tmp_path,))
    with pytest.raises(UserError, match="nothing at"):
        doctor((tmp_path / "absent",))


def test_without_a_path_the_installation_is_examined(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    assert "torchvision" in capsys.readouterr().out
