from pathlib import Path

import pytest

from imitate.cli import main
from imitate.commands.doctor import RAW, doctor
from imitate.errors import UserError


@pytest.mark.parametrize(("source", "signs"), RAW)
def test_a_raw_tree_is_recognised_by_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, signs: tuple[str, ...]
) -> None:
    for sign in signs:
        (tmp_path / sign.replace("*", "")).touch()
    with pytest.raises(UserError, match="1 broken: "):
        doctor((tmp_path,))
    assert capsys.readouterr().out.splitlines()[0] == f"raw tree {tmp_path}, {source}"


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


def test_the_exit_code_tells_what_is_broken_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "stage_2_train_labels.csv").write_text("patientId,x,y,width,height,Target\n")
    (tmp_path / "config.yaml").write_text("training: {epochs: 0}\n")
    assert main(["doctor", str(tmp_path), "--source", "rsna"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("imitate doctor: 1 broken: tables: ")
    assert error.count("\n") == 1
    assert main(["doctor", str(tmp_path), str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("imitate doctor: 2 broken: config.yaml: ")


def test_a_path_that_says_nothing_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot tell what .* is: name its --source"):
        doctor((tmp_path,))
    with pytest.raises(UserError, match="nothing at"):
        doctor((tmp_path / "absent",))


def test_without_a_path_the_installation_is_examined(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    assert "torchvision" in capsys.readouterr().out
