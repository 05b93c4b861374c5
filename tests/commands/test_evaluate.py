"""The verb end to end, with a task whose metrics are known, and its failures."""

from pathlib import Path
from typing import Any

import pytest
from folders import edit_index, edit_rows
from noisy_task import Noisy, install, write_data

import imitate.tasks
from imitate import cli
from imitate.commands.evaluate import evaluate
from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.tasks.results import read_predictions, read_results


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "prepared")


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return install(monkeypatch)


def test_metrics_intervals_and_files(data: Path, tmp_path: Path, fakes: dict[str, Any]) -> None:
    out = tmp_path / "results" / "noisy.json"
    results = evaluate(
        "linear-classification", model=("0.5", "0.5"), data=data, out=out, seeds=2, name="row", resamples=200
    )
    assert results == read_results(out)
    assert sorted(path.name for path in out.parent.iterdir()) == ["noisy.json", "noisy.npz"]
    assert (results.model, results.seeds, fakes["seeds"]) == ("row", [0, 1, 2, 3], [0, 1, 2, 3])
    assert results.data == {
        "name": "prepared", "source": "table", "fingerprint": "abc", "split": "test", "images": 100, "patients": 50
    }  # fmt: skip
    main = results.metrics["auroc"]
    assert main.value == pytest.approx(sum(each["auroc"] for each in results.per_seed) / 4)
    assert main.low is not None and main.high is not None and main.value is not None
    assert main.low < main.value < main.high and main.chance == 0.5
    runs = read_predictions(results, out)
    assert [Noisy().measure(run) for run in runs] == results.per_seed
    again = evaluate("linear-classification", model=("0.5",) * 4, data=data, out=out, name="row", resamples=200)
    assert again.metrics == results.metrics


def test_an_undefined_class_is_excluded_and_named(data: Path, tmp_path: Path) -> None:
    edit_rows(data, labels=[[label[0], 0.0] for label in Corpus.open(data).labels])
    out = tmp_path / "r.json"
    results = evaluate("linear-classification", model=("0.5",), data=data, out=out, resamples=20)
    assert results.metrics["auroc/Mass"].value is None
    assert results.metrics["auroc"].note == "undefined and left out: Mass"
    assert results.metrics["auroc"].value == results.metrics["auroc/Edema"].value
    assert read_results(out) == results


def test_a_rare_class_has_no_interval_and_says_so(data: Path, tmp_path: Path) -> None:
    edit_rows(data, labels=[[label[0], float(i == 50)] for i, label in enumerate(Corpus.open(data).labels)])
    found = evaluate("linear-classification", model=("0.5",), data=data, out=tmp_path / "r.json", resamples=50).metrics
    assert found["auroc/Mass"].low is None is found["auroc"].low
    assert found["auroc/Mass"].note == "no interval: it rests on 1 positive patient, at least 10 are needed"
    assert found["auroc"].note == "no interval: its rarest class rests on 1 positive patient, at least 5 are needed"
    assert found["auroc/Edema"].low is not None and found["auroc/Edema"].note == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"settings": ("split",)}, "setting 'split' has no value"),
        ({"settings": ("splitt=val",)}, "unknown key 'splitt'; known: classes, projections, split, steps"),
        ({"settings": ("split=5x200",)}, "no images in split '5x200'"),
        ({"out": Path("r.txt")}, "must be the path of a .json file"),
        ({"seeds": 0}, "each must be at least 1"),
        ({"device": "cuda:0"}, "PyTorch finds no GPU"),
        ({"data": Path("nowhere")}, "prepared folder nowhere does not exist"),
        ({"task": "retrieval", "fraction": 0.1}, "retrieval trains nothing, so a fraction of 0.1"),
        ({"task": "zero-shot"}, "0.5 has no text encoder: give the folder of a pre-training run"),
    ],
)
def test_mistakes_are_reported_in_one_line(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    values: dict[str, Any] = {"model": ("0.5",), "data": data, "out": tmp_path / "r.json", **options}
    with pytest.raises(UserError, match=message) as reported:
        evaluate(values.pop("task", "linear-classification"), **values)
    assert "\n" not in str(reported.value)
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize("need", ["labels", "masks", "boxes"])
def test_data_without_what_the_task_needs(
    need: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Noisy, "needs", frozenset({need}))
    edit_index(data, classes=[])
    with pytest.raises(UserError, match=f"linear-classification needs {need}, .* has none"):
        evaluate("linear-classification", model=("0.5",), data=data, out=tmp_path / "r.json")


def test_images_of_another_size(data: Path, tmp_path: Path, fakes: dict[str, Any]) -> None:
    fakes["size"] = 16
    with pytest.raises(UserError, match="holds images of 8 px, but this model needs 16"):
        evaluate("linear-classification", model=("0.5",), data=data, out=tmp_path / "r.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no results at"), ("{", "is not JSON"), ("[]", "is not a results file"), ("{}", "r.json: task")],
)
def test_unreadable_results(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "r.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_results(tmp_path / "r.json")


def test_results_without_their_predictions(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    results = evaluate("linear-classification", model=("0.5",), data=data, out=out, resamples=20)
    out.with_suffix(".npz").unlink()
    with pytest.raises(UserError, match=r"the predictions r\.npz of .* are missing"):
        read_predictions(results, out)


def test_the_command_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r.json"
    line = ["evaluate", "linear-classification", "--model", "0.5", "0.7", "--data", str(data), "--out", str(out)]
    for split in (["--settings", "split=train"], ["--split", "train"]):
        out.unlink(missing_ok=True)
        assert cli.main([*line, "--resamples", "20", *split]) == 0
        found = read_results(out).settings
        assert found == {"projections": None, "classes": ["Edema", "Mass"], "split": "train", "steps": 0}
    shown = " ".join(capsys.readouterr().out.split())
    assert "Mass 0.9583" in shown and "0.5 + 0.7 on prepared, split train, 20 images of 10 patients, 2 seeds" in shown
    assert cli.main([*line, "--settings", "x=1"]) == 2
    assert "imitate evaluate: settings of linear-classification: unknown key 'x'" in capsys.readouterr().err
    for mistake in (["--splitt", "train"], ["--followups", "excluded"]):  # the second is an option of another task
        with pytest.raises(SystemExit) as ended:
            cli.main([*line, *mistake])
        assert ended.value.code == 2 and f"Unrecognized options: {mistake[0]}" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "linear-classification", "--help"])
    text = capsys.readouterr().out
    assert "Fraction of the training patients" in text and "--split STR" in text and "(default: test)" in text


def test_a_task_named_after_the_models_is_not_taken_for_one(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["evaluate", "--data", "x", "--out", "r.json", "--model", "random", "retrieval"]
    assert cli.main(line) == 2
    assert "retrieval is a task, not a model: put it first: imitate evaluate retrieval" in capsys.readouterr().err


def test_a_recipe_brings_the_flags_of_its_task(data: Path, tmp_path: Path, recipe: Path) -> None:
    out = tmp_path / "r.json"
    line = ["evaluate", "--recipe", str(recipe), "--model", "0.5", "--data", str(data), "--out", str(out)]
    assert cli.main([*line, "--fraction", "1", "--split", "train", "--resamples", "10"]) == 0
    assert read_results(out).settings["split"] == "train"


RECIPE = """
task: linear-classification
data: {source: table, size: 8}
settings: {classes: [Edema, Mass]}
fractions: {0.1: {split: train}, 1.0: {}}
published: {source: Someone, shares: [0.1, 1.0], rows: {Other: {auroc: [70.0, 80.0]}}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "row.yaml"
    path.write_text(RECIPE)
    return path


def test_a_recipe_measures_every_fraction_and_quotes_what_stands_beside(
    data: Path, tmp_path: Path, recipe: Path
) -> None:
    out = tmp_path / "out" / "r.json"
    last = evaluate(model=("0.5",), beside=("0.7",), data=data, out=out, recipe=recipe, seeds=2, resamples=10)
    found = {path.stem: read_results(path) for path in out.parent.glob("*.json")}
    assert sorted(found) == ["r-0.1", "r-0.7-0.1", "r-0.7-1", "r-1"]
    assert last == found["r-1"]
    assert [(each.fraction, each.data["split"], each.encoders) for each in (found["r-0.1"], found["r-0.7-1"])] == [
        (0.1, "train", ["0.5"]), (1.0, "test", ["0.7"])
    ]  # fmt: skip
    assert all(len(each.seeds) == 2 and each.published.rows["Other"]["auroc"] == (70, 80) for each in found.values())  # type: ignore[union-attr]


def test_flags_are_stronger_than_the_recipe(data: Path, tmp_path: Path, recipe: Path) -> None:
    out = tmp_path / "r.json"
    values: dict[str, Any] = {"model": ("0.5",), "data": data, "out": out, "recipe": recipe, "resamples": 10}
    found = evaluate(**values, fraction=0.1, settings=("split=test",), mode="paper")
    assert (found.fraction, found.mode, found.settings["split"]) == (0.1, "paper", "test")
    assert found.published is None  # it was printed for the other mode
    assert evaluate(**values, fraction=0.3).settings["split"] == "test"


def test_a_folder_prepared_otherwise_stands_beside_nothing(
    data: Path, tmp_path: Path, recipe: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe.write_text(RECIPE.replace("size: 8", "size: 9, mode: paper"))
    found = evaluate(model=("0.5",), data=data, out=tmp_path / "r.json", recipe=recipe, fraction=1.0, resamples=10)
    assert found.published is None
    assert "mode clean, not paper; size 8, not 9: the published values are omitted" in caplog.text


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (RECIPE, {"task": "retrieval"}, "measures linear-classification, not retrieval"),
        (RECIPE.replace("table", "rsna"), {}, "holds table, but the recipe is for rsna"),
        (RECIPE.replace("1.0: {}", "1.5: {}"), {}, r"a fraction must be in \(0, 1\], not 1.5"),
        (RECIPE.replace("80.0", "80.0, 90.0"), {}, "published: Other has 3 values of auroc for 2 shares"),
        (RECIPE.replace("linear-classification", "zero-shot"), {}, "zero-shot trains nothing, so a fraction of 0.1"),
        ("task: retrieval\nfigure: x", {}, "unknown key 'figure'; known: data, fractions"),
        ("task: retrieval\nsettings:\n  split: 3", {}, r"settings of retrieval in .*row.yaml, line 3: split = 3: "),
        (
            "task: detection\nsettings: {width: 8}\nfractions:\n  0.1: {width: 0}",
            {},
            r"settings of detection in .*row.yaml, line 4: width = 0: .* greater than or equal to 4",
        ),
        (RECIPE, {"settings": ("split=3",)}, r"settings of linear-classification: split = 3: "),
        (None, {"recipe": None}, "nothing to measure: name a TASK, or a --recipe"),
    ],
)
def test_mistakes_of_a_recipe(
    data: Path, tmp_path: Path, recipe: Path, text: str | None, options: dict[str, Any], message: str
) -> None:
    recipe.write_text(text or "")
    values: dict[str, Any] = {"model": ("0.5",), "data": data, "out": tmp_path / "r.json", "recipe": recipe, **options}
    with pytest.raises(UserError, match=message) as reported:
        evaluate(values.pop("task", None), **values)
    assert "\n" not in str(reported.value)


def test_every_name_has_a_place() -> None:
    for name in ("retrieval", "zero-shot"):
        assert imitate.tasks.find_task(name).name == name
