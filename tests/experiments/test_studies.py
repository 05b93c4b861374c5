"""Every committed study parses, its tests can be repeated, and every table is what its results say."""

import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest

import changes
import results
from compare import check_differences, corrected, from_scores
from imitate.config import Recipe, load_config, validate
from imitate.errors import UserError
from imitate.statistics.intervals import holm
from imitate.tasks import find_task
from layout import read_folder
from study import ROOT, Cell, load_study
from tables import page

FOLDERS = sorted(path.parent for path in (ROOT / "docs/results").glob("*/study.json"))


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_parses(path: Path) -> None:
    study = load_study(path)
    single = study.in_folds or path.stem.startswith("temperatures")  # which select a temperature for each baseline
    assert (study.seeds >= 2 or single) and next(iter(study.methods)) == study.reference
    recipe = load_config(Recipe, ROOT / study.recipe).resolved()
    for method in study.methods.values():
        changed = load_config(Recipe, ROOT / study.recipe, method.settings).resolved()
        assert (changed != recipe) == bool(method.settings)
    for measure in study.tasks.values():
        validate(find_task(measure.task), measure.settings, where=measure.task)


@pytest.mark.parametrize("name", ["confirm_open_i", "confirm_synthetic"])
def test_methods_that_are_compared_at_equal_seconds_take_as_long(name: str) -> None:
    """Within 5%, by the CPU seconds of a step; at equal steps, all methods take as many."""
    study = load_study(ROOT / f"experiments/{name}.yaml")
    table = json.loads((ROOT / "docs/results/budget.json").read_text())["tables"]["steps"]
    cost = {row["method"].partition(",")[0]: row["s a step"] for row in table}
    cost["selected"] = cost.pop("pooled")
    steps = {method: each.settings["training.steps"] for method, each in study.methods.items()}
    seconds = {method: steps[method] * cost[method.partition(" ")[0]] for method in steps}
    alike, longer = study.comparisons["equal seconds"], study.comparisons["equal steps"]
    assert len(alike) == len(longer) == len(cost) == 5 and len({steps[method] for method in longer}) == 1
    assert max(seconds[method] for method in alike) < 1.05 * min(seconds[method] for method in alike)


def test_everything_made_from_results_is_up_to_date() -> None:
    """`make results` writes it; the tests of other results than those beside them are an error."""
    drawn_alike = f"matplotlib=={version('matplotlib')}\n" in (ROOT / "constraints.txt").read_text()
    written = {path: text for path, text in results.written().items() if drawn_alike or path.suffix != ".svg"}
    assert len(written) > 5 and not [path.name for path, text in written.items() if path.read_bytes() != text]


def test_a_changed_result_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs/results/small/results.csv").read_text(encoding="utf-8")
    (tmp_path / "small").mkdir()
    (tmp_path / "small/results.csv").write_text(text.replace("zero-shot", "probe", 1), encoding="utf-8")
    (tmp_path / "small/study.json").write_bytes((ROOT / "docs/results/small/study.json").read_bytes())
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    results.study_of.cache_clear()
    with pytest.raises(UserError, match="the paired tests are of other results"):
        results.study_of("small")
    results.study_of.cache_clear()


def test_results_of_other_code_than_todays_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the page says so of their study."""
    (tmp_path / "small").mkdir()
    (tmp_path / "small/results.csv").write_bytes((ROOT / "docs/results/small/results.csv").read_bytes())
    about = (ROOT / "docs/results/small/study.json").read_text(encoding="utf-8")
    about = re.sub('"method": "[0-9.]+"', '"method": "0.7"', about)
    (tmp_path / "small/study.json").write_text(about, encoding="utf-8")
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(results, "OLDER", set())
    results.study_of.cache_clear()
    with pytest.raises(UserError, match=r"another version of the code \(zero-shot by method 0.7, now .*measure again"):
        results.study_of("small")
    monkeypatch.setattr(results, "OLDER", {"small"})
    commit = read_folder(tmp_path / "small").about["made_by"]["commit"][:7]
    line = f"- `small` was measured at commit {commit}; today's code gives other values."
    assert results.older(results.study_of("small")) == line
    results.study_of.cache_clear()


def test_the_table_of_changes_has_the_old_value_and_todays_where_there_is_one() -> None:
    study = read_folder(ROOT / "docs/results/synthetic")
    methods = {cell: find_task(found.task).method() for cell, found in study.results.items()}

    def cells(**changed: str) -> list[str]:
        now = {
            cell: found.model_copy(update={"method": changed.get("method", methods[cell])})
            for cell, found in study.results.items()
        }
        table = changes.table(study._replace(results=now), "synthetic").splitlines()
        head, line = ([each.strip() for each in row.split("|")] for row in (table[0], table[2]))
        assert line[1] == "retrieval, mean recall"
        return [line[head.index(name)] for name in ("IMITATE", "what changed")]

    value = study.results[Cell("IMITATE", "retrieval")].metrics["mean-recall"].value
    assert value is not None
    assert cells() == [f"11.3 → {100 * value:.1f}", "the gallery has another size"]
    assert cells(method="0.7")[0] == "11.3 → –"


def test_tables_name_what_today_is_measured_otherwise() -> None:
    """What is older is said in tables.md, since the numbers of today's code are others."""
    for folder in FOLDERS:
        study = read_folder(folder)
        older = {cell.task for cell, found in study.results.items() if found.method != find_task(found.task).method()}
        assert ("Measured by an earlier version of the code" in page(study)) == bool(older)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_results_file_stays_small(folder: Path) -> None:
    assert (folder / "results.csv").stat().st_size < 2**20


def test_an_unknown_block_is_refused() -> None:
    with pytest.raises(UserError, match="nothing is not a block"):
        results.fill("<!-- results: nothing -->\n<!-- end -->")


def test_the_paired_tests_of_the_small_study_are_those_of_its_predictions() -> None:
    folder = ROOT / "docs/results/small"
    study = read_folder(folder)
    resamples = study.about["differences"]["resamples"]
    found = from_scores(study, folder, resamples=resamples)
    corrected(found)
    for each, known in zip(found, study.differences, strict=True):
        for key, value in known.items():  # processors differ in the last digits
            assert each[key] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value)
    assert sum(path.stat().st_size for path in folder.glob("*.parquet")) < 2**20


def test_the_confirmations_share_their_correction() -> None:
    studies = [read_folder(ROOT / "docs/results" / name) for name in ("confirm_open_i", "confirm_synthetic")]
    for family in ("equal steps", "equal seconds"):
        tests = [each for study in studies for each in study.differences if each["family"] == family]
        assert [each["p_holm"] for each in tests] == holm([each["p"] for each in tests]) and len(tests) == 20


def test_tests_corrected_with_those_of_other_results_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("confirm_open_i", "confirm_synthetic"):
        (tmp_path / name).mkdir()
        for file in ("results.csv", "study.json"):
            (tmp_path / name / file).write_bytes((ROOT / "docs/results" / name / file).read_bytes())
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    results.study_of.cache_clear()
    results.study_of("confirm_open_i")
    with (tmp_path / "confirm_synthetic/results.csv").open("a", encoding="utf-8") as changed:
        changed.write("\n")
    results.study_of.cache_clear()
    with pytest.raises(UserError, match="compare.py docs/results/confirm_open_i docs/results/confirm_synthetic again"):
        results.study_of("confirm_open_i")
    results.study_of.cache_clear()


def test_tests_of_other_predictions_are_refused() -> None:
    study = read_folder(ROOT / "docs/results/small")
    check_differences(study, study.differences)
    first, *others = study.differences
    with pytest.raises(UserError, match=f"{first['task']}: the predictions of .* are not those of results.csv"):
        check_differences(study, [*others, {**first, "difference": first["difference"] + 1e-5}])


def test_a_study_without_predictions_says_how_they_are_made() -> None:
    folder = ROOT / "docs/results/open_i"
    with pytest.raises(UserError, match="experiments/run.py experiments/open_i.yaml --work WORK"):
        from_scores(read_folder(folder), folder, resamples=10)


def test_sentences_quote_values_of_the_studies() -> None:
    """Every value with an interval that stands outside the tables of a page is one of these or of a study's tables."""
    studies = "".join(page(read_folder(folder)) for folder in FOLDERS)
    for name in results.PAGES:
        written = (ROOT / name).read_text(encoding="utf-8")
        known = re.sub(r"[*]", "", studies + "".join(block[0] for block in results.PATTERN.finditer(written)))
        text = results.PATTERN.sub("", written).replace("−", "-")
        for pattern in (r"\d+\.\d \(\d+\.\d–\d+\.\d\)", r"[-+]\d+\.\d \([-+]\d+\.\d to [-+]\d+\.\d\)"):
            quoted = set(re.findall(pattern, text))
            assert not {value for value in quoted if value not in known}
