"""A study of a tiny recipe, its commands run in this process: order, resumption, what is written."""

import json
import re
import shutil
import threading
import time
from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from folders import write_folder
from processes import HANG
from recipes import tiny_recipe

import measure
from compare import check_differences, corrected, differences, from_resamples, from_scores
from imitate import cli
from imitate.config import validate
from imitate.errors import UserError
from imitate.statistics.intervals import holm
from imitate.tasks import find_task
from imitate.tasks.base import Estimate
from imitate.tasks.results import commit, file_digest, read_predictions
from layout import read_folder, write_about
from prepared import check_prepared
from publish import made_by, publish, validations
from run import Runner, carry_out, jobs
from study import Cell, Study, load_study
from tables import page
from tables import tests as shown

TASKS = {
    "retrieval": {"task": "retrieval", "data": "set", "settings": {"split": "val"}},
    "probe": {"task": "linear-classification", "data": "set", "settings": {"split": "val"}, "fractions": [1, 0.5]},
}
STAGES = [
    {"family": "baselines", "methods": {"IMITATE": {}, "CLIP": {"settings": {"objective.name": "clip"}}}},
    {"family": "baselines", "methods": {"SimCLR": {"settings": {"objective.name": "simclr"}, "tasks": ["probe"]}}},
    {
        "family": "controls",
        "methods": {"untrained": {"model": "random"}, "raw": {"model": "pixels", "tasks": ["probe"]}},
    },
]


class AtOnce(ThreadPoolExecutor):
    """Runs each task where it is submitted: a pre-training in this process takes signals, as only its main thread can."""

    def submit(self, task: Callable[[], bool]) -> Future[bool]:  # type: ignore[override]
        future: Future[bool] = Future()
        future.set_result(task())
        return future


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("run.ThreadPoolExecutor", AtOnce)
    write_folder(tmp_path / "work" / "set", n=60, source="table", options={})
    return tmp_path / "work"


def study(work: Path, **changes: object) -> Study:
    recipe = work / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe(epochs=1).model_dump(mode="json", exclude={"objective"})))
    values = {"recipe": str(recipe), "train": "set", "data": {"set": {"source": "table"}}, "seeds": 2}
    return validate(Study, {**values, "tasks": TASKS, "stages": STAGES, **changes}, where="test")


def test_what_can_start_does_not_wait_for_the_end_of_its_method(work: Path) -> None:
    """With as many workers as there are runs, a measurement starts when the runs that it reads are finished."""
    here = runner(work, tasks={"probe": {**TASKS["probe"], "fractions": [1]}})
    needs = {key: needed for key, (needed, _) in jobs(here).items()}
    rows = [[(name, 0), (name, 1), (name, "probe")] for name in ("IMITATE", "CLIP")]
    assert list(needs)[:6] == [*rows[0], *rows[1]], "a study that is stopped has whole rows"
    assert needs["CLIP", 1] == [] and needs["CLIP", "probe"] == [("CLIP", 0), ("CLIP", 1)]
    assert needs["SimCLR", "probe"] == [("SimCLR", 0), ("SimCLR", 1)]
    assert needs["untrained", "probe"] == needs["raw", "probe"] == [("IMITATE", 0)]


class Here(Runner):
    """Runs the commands in this process; ``broken`` names fail."""

    broken: frozenset[str] = frozenset()

    def run(self, name: str, arguments: list[str]) -> dict[str, float] | None:
        self.ran = [*getattr(self, "ran", []), name]
        if name in self.broken:
            return None
        code = cli.main(arguments[2:]) if arguments[0] == "-m" else measure.main(arguments[1])
        return None if code else {"seconds": 2.0, "cpu_seconds": 1.5}


def runner(work: Path, **changes: object) -> Here:
    return Here(study(work, **changes), work, threads=1, seeds=2)


def test_a_stopped_study_goes_on_with_what_is_missing(work: Path) -> None:
    control = {"family": "controls", "methods": {"untrained": {"model": "random"}}}
    less = {"tasks": {"retrieval": TASKS["retrieval"]}, "stages": [STAGES[0], control]}
    first = runner(work, **less)
    first.broken = frozenset({"pretrain-clip-1"})
    assert not carry_out(first, workers=1)
    whole = ["pretrain-imitate-0", "pretrain-imitate-1", "measure-imitate--retrieval"]
    assert first.ran == [*whole, "pretrain-clip-0", "pretrain-clip-1", "measure-untrained--retrieval"]

    second = runner(work, **less)
    assert carry_out(second, workers=1)
    assert second.ran == ["pretrain-clip-1", "measure-clip--retrieval"]
    third = runner(work, **less)
    assert carry_out(third, workers=1) and not hasattr(third, "ran")
    (work / "runs/clip/0/done.json").unlink()
    fourth = runner(work, **less)
    assert carry_out(fourth, workers=1) and fourth.ran == ["pretrain-clip-0"]  # to the same weights, bit for bit


def test_a_fold_has_its_own_folder_and_runs(work: Path) -> None:
    whole = {"set": {"source": "table"}, "set-fold-{fold}": {"folds-of": "set"}}
    tasks = {"retrieval": {"task": "retrieval", "data": "set-fold-{fold}"}}
    folds = study(work, data=whole, train="set-fold-{fold}", tasks=tasks)
    assert folds.in_folds and not study(work).in_folds
    one = Here(folds.of_fold(1), work, threads=1, seeds=1, part="fold-1")
    assert one.folder("CLIP", 0) == work.resolve() / "fold-1/runs/clip/0"
    assert one.wanted("CLIP", "retrieval").data == str(work.resolve() / "set-fold-1")
    made = Runner(one.study, work, threads=1, seeds=1, part="fold-1")
    assert made.prepare("set", None) and made.prepare("set-fold-1", None)
    assert {path.name for path in work.glob("set-*")} == {*[f"set-fold-{number}" for number in range(5)], "set-confirm"}


def test_what_changed_is_measured_again(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, settings, data, and the code that measures."""
    control = {"family": "controls", "methods": {"raw": {"model": "pixels", "tasks": ["probe"]}}}
    stages = [{"family": "baselines", "methods": {"IMITATE": {}}}, control]
    less: dict[str, Any] = {"tasks": {"probe": {**TASKS["probe"], "fractions": [1]}}, "stages": stages}

    def ran(**changes: Any) -> list[str]:
        here = runner(work, **{**less, **changes})
        assert carry_out(here, workers=1)
        return getattr(here, "ran", [])

    assert ran()[-2:] == ["measure-imitate--probe", "measure-raw--probe"] and ran() == []
    weights = next((work / "runs/imitate/1/model").glob("*.safetensors"))
    weights.write_bytes((work / "runs/imitate/0/model" / weights.name).read_bytes())
    assert ran() == ["measure-imitate--probe"]
    other = {"probe": {**TASKS["probe"], "fractions": [1], "settings": {"split": "test"}}}
    assert ran(tasks=other) == ["measure-imitate--probe", "measure-raw--probe"]
    monkeypatch.setattr("imitate.tasks.base.METHOD_VERSION", 99)
    assert ran(tasks=other) == ["measure-imitate--probe", "measure-raw--probe"]
    index = work / "set" / "index.json"
    index.write_text(index.read_text().replace('"fingerprint": "', '"fingerprint": "0'))
    assert ran(tasks=other) == ["measure-imitate--probe", "measure-raw--probe"]


def test_what_was_published_is_not_run_again_without_the_work(work: Path, tmp_path: Path) -> None:
    stages = [{"family": "baselines", "methods": {"IMITATE": {}, "CLIP": {"settings": {"objective.name": "clip"}}}}]
    less: dict[str, Any] = {"tasks": {"retrieval": TASKS["retrieval"]}, "stages": stages}
    out, first = tmp_path / "out", runner(work, **less)
    first.broken = frozenset({"pretrain-clip-1"})
    assert not carry_out(first, workers=1, publish=lambda: publish(first, out, ABOUT))
    rows = read_folder(out)
    assert [cell.method for cell in rows.cells] == ["IMITATE"], "each row is published when it is finished"
    for folder in ("runs", "results"):
        shutil.rmtree(work / folder)
    second = Here(study(work, **less), work, threads=1, seeds=2, before=rows)
    assert carry_out(second, workers=1)
    publish(second, out, ABOUT)
    assert second.ran == ["pretrain-clip-0", "pretrain-clip-1", "measure-clip--retrieval"]
    both = read_folder(out)
    assert [cell.method for cell in both.cells] == ["IMITATE", "CLIP"]
    kept = both.results[both.cells[0]]
    assert kept.metrics == rows.results[rows.cells[0]].metrics and kept.per_seed == rows.results[rows.cells[0]].per_seed
    assert both.about["compute"].keys() == {"IMITATE", "CLIP"}
    less["tasks"]["retrieval"] = {**TASKS["retrieval"], "settings": {"split": "test"}}
    other = Here(study(work, **less), work, threads=1, seeds=2, before=both)
    assert not other.published("IMITATE", "retrieval"), "another split is another row"


ABOUT = {
    "made_by": {"command": "the command", "commit": "0" * 40},
    "machine": {"processor": "one", "threads": 1, "workers": 1},
}


def test_what_was_validated_in_the_course_of_a_run_is_published(tmp_path: Path) -> None:
    rows = [
        {"step": 2, "loss": 1.0},
        {"step": 2, "val/mean-recall": 0.1, "val/recall@1": 0.0},
        {"step": 4, "loss": 0.5},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert validations(tmp_path) == {}, "at the end alone, as most studies"
    rows.append({"step": 4, "val/mean-recall": 0.2, "val/recall@1": 0.1})
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert validations(tmp_path) == {"validation": {"2": 0.1, "4": 0.2}}


def test_tables_and_tests_are_made_from_what_is_published(work: Path) -> None:
    here, out = runner(work), work.parent / "out"
    assert carry_out(here, workers=1)
    publish(here, out, ABOUT)
    found = read_folder(out)
    assert sorted(path.name for path in out.iterdir()) == ["results.csv", "study.json"]
    assert str(work / "runs") not in (out / "study.json").read_text() and len(found.cells) == 3 + 3 + 2 + 3 + 2
    for cell, results in found.results.items():
        written = json.loads(here.path(cell).read_text())
        assert list(results.metrics) == list(written["metrics"]) and results.data == written["data"]
        for name, each in results.metrics.items():
            expected = Estimate(**written["metrics"][name])
            assert (each.value, each.note) == (expected.value, expected.note)
            for kind in ("low", "high", "chance"):
                value = getattr(expected, kind)
                assert getattr(each, kind) == (value if value is None else pytest.approx(value, 1e-5))
        assert [pytest.approx(values, 1e-5) for values in written["per_seed"]] == results.per_seed
        assert results.method == written["method"] == find_task(results.task).method()
    targets = read_predictions(found.results[Cell("raw", "probe")], here.path(Cell("raw", "probe")))[0]["target"]
    assert list(found.about["positives"]["probe"].values()) == (targets == 1).sum(0).tolist()
    assert "retrieval" not in found.about["positives"] and found.about["commits"] == [commit()]
    run = found.about["compute"]["CLIP"][0]
    assert run["steps"] * 8 == run["pairs"] > 0 and run["seconds"] == 2.0 and not run["resumed"]
    model = yaml.safe_load((work / "runs/clip/0/config.yaml").read_text())["model"]
    assert model["levels"] == [] and model["texts"] == "report"
    assert len(found.about["predictions"]["sha256"]) == 64 and found.about["predictions"]["file"] is None

    tests = differences({cell: here.path(cell) for cell in found.cells}, found.about, resamples=50)
    assert len(tests) == len(found.cells) - 3
    check_differences(found, tests)
    corrected(tests)
    for family in ("baselines", "controls"):
        mine = [each for each in tests if each["family"] == family]
        np.testing.assert_array_equal([each["p_holm"] for each in mine], holm([each["p"] for each in mine]))
    assert {each["low"] for each in tests} == {None}  # of fewer than ten patients
    found.about["differences"] = {"of": file_digest(out / "results.csv"), "resamples": 50, "tests": tests}
    text = page(found)
    value = found.results[Cell("CLIP", "retrieval")].metrics["mean-recall"].value
    assert value is not None and f" {100 * value:.1f} " in text
    assert "probe at 50%, AUROC" in text and "minus IMITATE" in text
    assert "Made by `the command` with `" in text and "of commit 0000000;" in text
    assert re.search(r"CPU seconds per run \| +processor \|", text), "the runs were not made on the study's processor"
    for runs in found.about["compute"].values():
        runs[:] = [{**each, "processor": "one"} for each in runs]
    assert not re.search(r"\| +processor \|", page(found))
    assert not re.search(r"\| +precision \|", text), "that of all runs is the same"
    found.about["compute"]["CLIP"][0]["precision"] = "16-mixed"
    assert re.search(r"\| CLIP +\|.*\| 16-mixed, (32-true|bf16-mixed) \|", page(found))


def alike(tests: list[dict[str, Any]], others: list[dict[str, Any]]) -> bool:
    """But for rounding."""
    return tests == [
        {key: pytest.approx(value, 1e-4) if isinstance(value, float) else value for key, value in each.items()}
        for each in others
    ]


def test_paired_tests_of_rows_from_two_work_folders_are_those_of_one(work: Path, tmp_path: Path) -> None:
    """A family may have a reference of its own, and methods of another family beside its own."""
    first = [{"family": "steps", "methods": {"IMITATE": {}, "CLIP": {"settings": {"objective.name": "clip"}}}}]
    slow = {"objective.name": "clip", "training.learning_rate": 1e-5}
    second = {"family": "seconds", "reference": "slow", "against": ["CLIP"], "methods": {"slow": {"settings": slow}}}
    tasks = {name: {**task, "fractions": [1]} for name, task in TASKS.items()}
    tasks["probe"]["tested"] = False
    tasks["retrieval"]["settings"] = {"split": "train"}  # which has enough patients
    less: dict[str, Any] = {"resamples": 30, "tasks": tasks, "stages": [*first, second]}
    out, here = tmp_path / "out", runner(work, **less)
    here.broken = frozenset({"pretrain-slow-1"})
    assert not carry_out(here, workers=1)
    publish(here, out, ABOUT)
    more = runner(work, **{**less, "resamples": 40})
    assert here.measured("IMITATE", "retrieval") and not more.measured("IMITATE", "retrieval")
    kept = tmp_path / "kept"
    shutil.copytree(work / "results", kept)
    for folder in ("runs", "results"):
        shutil.rmtree(work / folder)
    again = Here(study(work, **less), work, threads=1, seeds=2, before=read_folder(out))
    assert carry_out(again, workers=1)
    publish(again, out, ABOUT)
    assert {name.split("-")[1] for name in again.ran} == {"slow"}
    found = read_folder(out)
    shutil.copytree(kept, work / "results", dirs_exist_ok=True)
    tests = differences({cell: again.path(cell) for cell in found.cells}, found.about, resamples=30)
    assert [(each["family"], each["method"], each["reference"]) for each in tests] == [
        ("steps", "CLIP", "IMITATE"),
        ("seconds", "CLIP", "slow"),
    ]
    assert alike(from_resamples(found, out), tests) and all(0 < each["p"] < 1 for each in tests)
    write_about(out, {**found.about, "differences": {"of": file_digest(out / "results.csv"), "tests": tests}})
    done = Here(study(work, **less), work, threads=1, seeds=2, before=read_folder(out))
    assert carry_out(done, workers=1) and not hasattr(done, "ran")
    publish(done, out, ABOUT)
    assert read_folder(out).differences == tests, "the tests of the same results stay"
    untested = read_folder(out)
    del untested.about["differences"]
    with pytest.raises(UserError, match=r"no paired tests of steps: run experiments/compare.py"):
        shown(untested, "steps")
    other = Here(study(work, **{**less, "resamples": 40}), work, threads=1, seeds=2, before=found)
    assert not other.published("IMITATE", "retrieval") and other.published("IMITATE", "probe")


def test_paired_tests_repeated_from_kept_predictions_are_the_same(work: Path) -> None:
    """Patients' names are hashed there, and numbers are float32; neither may move a test."""
    stages = [STAGES[0], {"family": "controls", "methods": {"untrained": {"model": "random"}}}]
    here, out = runner(work, stages=stages, tasks={"probe": TASKS["probe"]}, keep_predictions=True), work.parent / "out"
    assert carry_out(here, workers=1)
    publish(here, out, ABOUT)
    found = read_folder(out)
    assert not any(name in (out / "predictions.parquet").read_bytes() for name in (b"patient0", b"image0"))
    tests = differences({cell: here.path(cell) for cell in found.cells}, found.about, resamples=50)
    assert from_scores(found, out, resamples=50) == tests and len(tests) == 4
    (out / "predictions.parquet").write_bytes(b"another")
    with pytest.raises(UserError, match="is not the file that study.json names"):
        from_scores(found, out, resamples=50)


def test_finished_runs_of_other_settings_are_not_taken_for_these(work: Path) -> None:
    stages = [{"family": "baselines", "methods": {"IMITATE": {"settings": {"training.epochs": 1}}}}]
    assert carry_out(runner(work, stages=stages, tasks={}), workers=1)
    stages[0]["methods"]["IMITATE"]["settings"]["training.epochs"] = 2
    again = runner(work, stages=stages, tasks={})
    assert not carry_out(again, workers=1) and not hasattr(again, "ran")


def test_a_run_on_other_data_is_not_taken_for_this_one(work: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Both studies call it CLIP, with the same settings; in a part of its own it does not meet the other."""
    one = Runner(study(work), work, threads=1, seeds=1)
    settings = {**one.study.methods["CLIP"].settings, "training.seed": 0}
    one.folder("CLIP", 0).mkdir(parents=True)
    (one.folder("CLIP", 0) / "done.json").write_text(json.dumps({"settings": settings, "train": ["set"]}))
    assert one.pretrain("CLIP", 0)
    other = study(work, train="other", data={"other": {"source": "table"}}, tasks={})
    with caplog.at_level("INFO"):
        assert not Runner(other, work, threads=1, seeds=1).pretrain("CLIP", 0)
    assert "has another recipe, other settings or other data" in caplog.text
    assert not Runner(other, work, threads=1, seeds=1, part="mine").folder("CLIP", 0).exists()


def test_a_run_of_an_edited_recipe_is_not_taken_for_this_one(work: Path) -> None:
    stages = [{"family": "baselines", "methods": {"IMITATE": {}}}]
    assert carry_out(runner(work, stages=stages, tasks={}), workers=1)
    assert carry_out(runner(work, stages=stages, tasks={}), workers=1)
    again = runner(work, stages=stages, tasks={})
    recipe = yaml.safe_load((work / "recipe.yaml").read_text())
    recipe["training"]["learning_rate"] /= 2
    (work / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert not carry_out(again, workers=1) and not hasattr(again, "ran")


@pytest.mark.parametrize(
    "other", [{"n": 31}, {"n": 30, "seed": 1}, {"n": 30, "hospital": "south"}, {"n": 30, "resize": "letterbox"}]
)
def test_a_folder_of_other_options_is_not_taken_for_the_study_s(tmp_path: Path, other: dict[str, Any]) -> None:
    asked = {"source": "synthetic", "size": 32, "n": 30}
    flags = [part for key, value in other.items() for part in (f"--{key}", str(value))]
    assert cli.main(["prepare", "synthetic", "--out", str(tmp_path / "set"), "--size", "32", *flags]) == 0
    with pytest.raises(UserError, match=f"was prepared with .*{list(other)[-1]}"):
        check_prepared(tmp_path / "set", asked)
    check_prepared(tmp_path / "set", {**asked, **other})


def test_a_command_is_timed_and_its_last_line_shown_where_it_fails(
    work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    real = Runner(study(work), work, threads=1, seeds=1)
    spent = real.run("good", ["-c", "sum(range(30_000_000))"])
    assert spent is not None and 0 < spent["cpu_seconds"] <= spent["seconds"] + 0.1
    with caplog.at_level("INFO"):
        assert real.run("bad", ["-c", "import sys; print('the reason'); sys.exit(2)"]) is None
    assert "bad stopped with 2: the reason" in caplog.text


def test_stopping_ends_the_commands_and_starts_no_more(work: Path) -> None:
    real = Runner(study(work), work, threads=1, seeds=1)
    found: list[object] = []
    waiting = threading.Thread(target=lambda: found.append(real.run("long", ["-c", "import time; time.sleep(36000)"])))
    waiting.start()
    while not real.children:
        time.sleep(0.01)
    real.stop()
    waiting.join(HANG)
    assert found == [None] and real.run("next", ["-c", "pass"]) is None


def test_the_recorded_command_starts_from_the_archives_without_git_too(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever folders it was run with; a copy without .git has its commit from the environment."""
    arguments = Namespace(study=Path("/elsewhere/mine.yaml"), out=Path("/tmp/out"), threads=1, workers=15, fold=None)
    monkeypatch.setattr("imitate.tasks.results._head", lambda root: None)
    monkeypatch.setenv("IMITATE_COMMIT", "of-a-copy")
    monkeypatch.setenv("PATH", "")
    found = made_by(study(work), arguments)["made_by"]
    start = "python experiments/run.py experiments/mine.yaml --work WORK --out docs/results/mine"
    assert found == {"commit": "of-a-copy", "command": f"{start} --raw set=FOLDER"}
    synthetic = study(work, data={"set": {"source": "synthetic"}})
    assert made_by(synthetic, arguments)["made_by"]["command"] == start


def test_names_that_a_study_does_not_define_are_refused(work: Path, tmp_path: Path) -> None:
    path, whole = tmp_path / "study.yaml", study(work).model_dump(mode="json")
    mistakes = {
        "data set other is used but not defined": {"train": "other"},
        "data set far is used": {"stages": [*STAGES, {"family": "x", "methods": {"A": {"train": ["set", "far"]}}}]},
        "method Nobody is used": {"reference": "Nobody"},
        "methods CLIP, clip share a name": {"stages": [*STAGES, {"family": "x", "methods": {"clip": {}}}]},
        "task nothing is used": {"stages": [*STAGES, {"family": "x", "methods": {"A": {"tasks": ["nothing"]}}}]},
    }
    for message, change in mistakes.items():
        path.write_text(yaml.safe_dump({**whole, **change}))
        with pytest.raises(UserError, match=message):
            load_study(path)


def test_a_method_on_two_processes_is_launched_on_two(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(Runner, "run", lambda self, name, arguments: asked.append(arguments))
    settings = {"training.devices": 2, "objective.negatives": "rank"}
    stages = [{"family": "a", "methods": {"IMITATE": {}, "two": {"settings": settings}}}]
    two = Runner(study(work, stages=stages), work, threads=1, seeds=1)
    assert not two.pretrain("two", 0) and not two.pretrain("IMITATE", 0)
    assert "--nproc-per-node=2" in asked[0] and "--nproc-per-node=2" not in asked[1]
    assert asked[0][-4:] == [
        "--settings",
        "training.devices=2",
        'objective.negatives="rank"',
        "training.seed=0",
    ]


def test_a_method_may_have_training_data_of_its_own(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(Runner, "run", lambda self, name, arguments: asked.append(arguments))
    data = {"set": {"source": "synthetic"}, "other": {"source": "synthetic", "seed": 1}}
    stages = [{"family": "a", "methods": {"IMITATE": {}, "both": {"train": ["set", "other"]}}}]
    one = Runner(study(work, stages=stages, data=data), work, threads=1, seeds=1)
    assert not one.pretrain("IMITATE", 0) and not one.pretrain("both", 0)
    folders = [words[words.index("--data") + 1 : words.index("--out")] for words in asked]
    assert folders == [[str(work / "set")], [str(work / "set"), str(work / "other")]]
    before = one.described("both", "probe")
    data["other"]["seed"] = 2
    changed = Runner(study(work, stages=stages, data=data), work, threads=1, seeds=1)
    assert changed.described("both", "probe") != before
    assert changed.described("IMITATE", "probe") == one.described("IMITATE", "probe")
