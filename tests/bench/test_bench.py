"""The command, with a task whose metrics are known: what is kept, what fails, the tests, the page and the numbers."""

import csv
import re
from pathlib import Path
from typing import Any

import pytest
from folders import edit_index
from noisy_task import Noisy, install, predicted, write_data

from imitate import cli
from imitate.bench import stamps
from imitate.commands.bench import bench
from imitate.data.files import locked
from imitate.errors import UserError
from imitate.statistics.intervals import holm
from imitate.tasks.base import Budget, Predictions

TASK = "linear-classification"
MODELS = ("good=0.5", "alike=0.5", "bad=9", "fine=0.8")  # by the noise of their scores


@pytest.fixture
def values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    install(monkeypatch)
    folders = [write_data(tmp_path / name, draw=draw) for draw, name in enumerate(("first", "second"))]
    return {"data": folders, "tasks": (TASK,), "out": tmp_path / "out", "resamples": 200}


def read(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_bold_and_arrows_are_what_the_paired_tests_say_corrected_over_all_of_them(values: dict[str, Any]) -> None:
    page = bench(MODELS, **values, reference="fine").read_text(encoding="utf-8")
    lines = [line for line in read(values["out"]) if line["metric"] == "auroc" and not line["class"]]
    assert [(line["data"], line["model"]) for line in lines] == [
        (data, name.partition("=")[0]) for data in ("first", "second") for name in MODELS
    ]
    tests = [line for line in lines if line["p"]]
    assert len(tests) == 6 and not any(line["p"] for line in lines if line["model"] == "fine")
    adjusted = holm([float(line["p"]) for line in tests])
    assert [float(line["p_holm"]) for line in tests] == pytest.approx(adjusted, rel=1e-6)
    table = page[page.index("<table>") : page.index("</table>")]
    rows = dict(re.findall(r'scope="row">.*?&nbsp;\s*(\w+)(.*?)</tr>', table, re.DOTALL))
    for name in ("good", "alike", "bad"):
        mine = [line for line in tests if line["model"] == name]
        cells = re.findall(r"<td>(<strong>)?([\d.]+)( ↓)?", rows[name])
        for line, (bold, value, worse) in zip(mine, cells, strict=True):
            clear = float(line["p_holm"]) < 0.05
            assert value == f"{100 * float(line['value']):.1f}"
            assert bool(bold) == (clear and float(line["difference"]) > 0)
            assert bool(worse) == (clear and float(line["difference"]) < 0)
    assert rows["bad"].count("↓") == 2 and "<strong>" in rows["good"] and "<strong>" not in rows["fine"]
    assert "corrected by Holm over the 6 tests" in page and "not a medical device" in page


def test_two_benches_do_not_write_into_one_folder(values: dict[str, Any]) -> None:
    values["out"].mkdir()
    with locked(values["out"] / "lock"), pytest.raises(UserError, match=r"another process holds .*lock: wait"):
        bench(MODELS, **values)
    assert not (values["out"] / "bench.html").exists()


def test_what_is_there_is_neither_measured_nor_loaded_again(values: dict[str, Any], monkeypatch: Any) -> None:
    def again(*models: str, **changes: Any) -> list[str]:
        """The results that were written."""
        before = {path: path.stat().st_mtime_ns for path in values["out"].glob("results/*.npz")}
        bench(models or MODELS, **{**values, **changes})
        paths = sorted(values["out"].glob("results/*.npz"))
        return [path.stem for path in paths if before.get(path) != path.stat().st_mtime_ns]

    def unused(*_: object) -> None:
        pytest.fail("a model was loaded")

    monkeypatch.setattr("imitate.bench.run.write_page", lambda found, folder: folder / "bench.html")
    values["resamples"] = 20
    names = [f"{name}--{TASK}-on-{data}" for name in ("alike", "bad", "fine", "good") for data in ("first", "second")]
    assert again() == names
    with monkeypatch.context() as patched:
        patched.setattr("imitate.bench.cells.results_of", unused)
        assert again() == [] and predicted == [0] * 8
    assert again(*MODELS, "new=2") == [f"new--{TASK}-on-{data}" for data in ("first", "second")]
    other = [write_data(values["out"].parent / "other" / "second", draw=7)]
    assert again("good=0.5", data=[values["data"][0], *other]) == [f"good--{TASK}-on-second"]
    both = [f"good--{TASK}-on-{data}" for data in ("first", "second")]
    assert again("good=0.5", resamples=10) == both
    assert again("good=0.5", resamples=10, settings=("steps=1",)) == both
    monkeypatch.setattr(Noisy, "version", 9)
    assert again("good=0.5", resamples=10, settings=("steps=1",)) == both


def test_other_weights_are_another_stamp(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    file = run / "model" / "model.safetensors"
    file.write_bytes(b"first")
    before = stamps.weights(str(run))
    (run / "last.ckpt").write_bytes(b"of the training")
    assert stamps.weights(str(run)) == before
    file.write_bytes(b"other")
    assert stamps.weights(str(run)) != before
    for place in ("model", "snapshots/step-1", "top/step-1"):  # whose texts the run's text encoder reads
        (run / place).mkdir(parents=True, exist_ok=True)
        (run / place / "config.json").write_text('{"backbone": ""}')
        (run / "text").mkdir(exist_ok=True)
        (run / "text" / "text.json").write_text("first")
        before = stamps.weights(str(run / place))
        (run / "text" / "text.json").write_text("second, longer")
        assert stamps.weights(str(run / place)) != before, place
    (tmp_path / "a.pt").write_bytes(b"weights")
    before = stamps.weights(str(tmp_path / "a.pt"))
    (tmp_path / "vocab.txt").write_text("words")
    assert stamps.weights(str(tmp_path / "a.pt")) != before and stamps.weights("random") == stamps.weights("random")


def test_results_that_a_killed_command_left_are_not_taken_for_those_before(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    values["data"], values["resamples"] = values["data"][:1], 10
    bench("good=0.5", **values, settings=("steps=1",))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("imitate.bench.stamps.write", killed)  # after the results were
        bench("good=0.5", **values, settings=("steps=2",))
    predicted.clear()
    bench("good=0.5", **values, settings=("steps=1",))
    assert predicted == [0]
    (values["out"] / "tests.json").write_text('{"cut')
    bench("good=0.5", **values, settings=("steps=1",))
    assert predicted == [0]


def test_a_cell_that_fails_is_one_line_and_does_not_end_the_others(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    predict = Noisy.predict

    def broken(task: Noisy, encoder: Any, data: Any, budget: Budget) -> Predictions:
        if encoder.name == "9":
            raise RuntimeError("the accelerator\nis on fire")
        if encoder.name == "0.8":
            raise UserError("this model cannot be read: fetch it again")
        return predict(task, encoder, data, budget)

    monkeypatch.setattr(Noisy, "predict", broken)
    words = ["bench", *MODELS, "--data", *map(str, values["data"]), "--tasks", TASK, "segmentation"]
    words += ["--out", str(values["out"]), "--resamples", "50"]
    assert cli.main(words) == 2
    reported = capsys.readouterr().err.splitlines()[-1]
    assert "4 of 16 cells failed" in reported and reported.endswith(
        "the accelerator (bench.log has the details) and 3 more"
    )
    page = (values["out"] / "bench.html").read_text(encoding="utf-8")
    assert "<li>bad, linear-classification on first, linear-classification on second: RuntimeError: the accel" in page
    assert "fine, linear-classification on first, linear-classification on second: this model cannot be read" in page
    assert "every model, segmentation on first: segmentation needs masks" in page
    assert "is on fire" in (values["out"] / "bench.log").read_text(encoding="utf-8")
    assert {line["model"] for line in read(values["out"])} == {"good", "alike"}
    monkeypatch.setattr(Noisy, "predict", predict)
    predicted.clear()
    assert cli.main(words) == 0 and len(predicted) == 4
    assert "Failed" not in (values["out"] / "bench.html").read_text(encoding="utf-8")


def test_a_model_that_lacks_something_is_a_dash_with_the_reason_and_no_failure(values: dict[str, Any]) -> None:
    for folder in values["data"]:
        edit_index(folder, traits={"masks": False})
    page = bench("0.5", **{**values, "tasks": ("zero-shot", TASK)}).read_text(encoding="utf-8")
    assert "zero-shot compares images with text, but 0.5 has no text encoder" in page and "Failed" not in page
    found = sorted(path.name for path in (values["out"] / "results").glob("*.state"))
    assert len(found) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": "nobody"}, "--reference nobody is not one of the models good"),
        ({"resamples": 0}, "resamples 0: each must be at least 1"),
        ({"tasks": ("fly",)}, "there is no task 'fly'"),
    ],
)
def test_mistakes_are_reported_before_the_work(values: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        bench("good=0.5", **{**values, **changes})
    assert not predicted


def test_names_in_any_script_have_files_of_their_own(values: dict[str, Any]) -> None:
    bench(("模型=0.5", "數據=0.8", "été a/b=0.9"), **{**values, "data": values["data"][:1], "resamples": 10})
    found = {path.name.partition("--")[0] for path in (values["out"] / "results").glob("*.json")}
    assert found == {"模型", "數據", "été-a-b"}


def test_an_out_that_cannot_be_a_folder_is_a_mistake(values: dict[str, Any]) -> None:
    file = values["out"].parent / "file"
    file.write_text("x")
    for out, message in (
        (file, "is a file: give the path of a folder"),
        (file / "x", "cannot make .*results .*give another"),
    ):
        with pytest.raises(UserError, match=message):
            bench("good=0.5", **{**values, "out": out})
    assert not predicted
