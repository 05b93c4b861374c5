"""The section of a calibration: its tables say what the predictions say, its bins and curves are those of loops."""

import re
from pathlib import Path

import numpy as np
import pytest
import results_files

from imitate.report import calibration, figures
from imitate.report.build import write_report
from imitate.report.calibration_figures import reliability_bins
from imitate.report.groups import read_groups
from imitate.statistics.operating import wilson
from imitate.tasks.calibration import Recalibration
from imitate.tasks.calibration_points import points


def test_the_tables_and_figures_of_a_calibration(tmp_path: Path) -> None:
    (group,) = read_groups([results_files.calibration(tmp_path / "a.json")])
    (run,) = group.methods["IMITATE"][1.0].predictions()
    found = calibration.shown(group, {"IMITATE": [run]}, figures.styles(["IMITATE"]))
    compared, operating = found.tables
    assert [line.heading for line in compared.lines] == [*results_files.CLASSES[:3], "mean of the calibrated classes"]
    metrics = group.methods["IMITATE"][1.0].results.metrics
    before, after = compared.lines[0].cells[:2]
    assert before.value == f"{100 * metrics['brier-before/Atelectasis'].value:.1f}"
    assert after.value == f"{100 * metrics['brier/Atelectasis'].value:.1f}"
    first = points(Recalibration(), run)[0]
    cells = operating.lines[0].cells
    assert [cell.value for cell in cells[-4:]] == [str(first.counts[key]) for key in ("tp", "fp", "fn", "tn")]
    low, high = first.wilson["sensitivity"]
    assert cells[3].value == f"{100 * low:.1f}–{100 * high:.1f}"
    assert operating.lines[2].cells[0].value == "none", "a class without a positive on validation has no threshold"
    assert len({len(line.cells) for line in operating.lines}) == 1
    assert [each.summary.partition(":")[0] for each in found.folded] == results_files.CLASSES[:3]
    shown = [list(each.figures[0].images) for each in found.folded]
    assert shown[0] == [
        "Reliability of Atelectasis, before calibration", "Reliability of Atelectasis, after calibration",
        "Decision curve of Atelectasis",
    ]  # fmt: skip
    assert shown[2] == [f"Reliability of {results_files.CLASSES[2]}, before calibration"]


def test_of_several_seeds_the_images_are_counted_once_and_what_is_of_one_is_said(tmp_path: Path) -> None:
    (group,) = read_groups([results_files.calibration(tmp_path / "a.json")])
    (run,) = group.methods["IMITATE"][1.0].predictions()
    look = figures.styles(["IMITATE"])
    once, twice = (calibration.shown(group, {"IMITATE": runs}, look) for runs in ([run], [run, run]))
    assert once.folded[0].summary.partition(";")[0] == twice.folded[0].summary.partition(";")[0]
    assert once.tables[1].caption == "Operating points, %: IMITATE"
    said = "thresholds, Wilson's intervals and counts: the first of 2 seeds"
    assert twice.tables[1].caption == f"Operating points, %: IMITATE ({said})"


def test_two_calibrations_are_compared_on_one_page(tmp_path: Path) -> None:
    paths = [results_files.calibration(tmp_path / f"{name}.json", model=name) for name in ("one", "two")]
    page = write_report(paths, out=tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("Operating points, %: ") >= 2 and "after calibration, two" in page
    assert "the highest threshold with a sensitivity of at least 0.9 on the validation images" in page
    assert not re.search(r"Infinity|nan", page)


def test_bins_hold_as_many_images_and_patients_are_cases() -> None:
    generator = np.random.default_rng(0)
    said = generator.random(1000)
    target, patient = (generator.random(1000) < said).astype(float), np.repeat(np.arange(500), 2)
    bins = reliability_bins(target, said, patient)
    order = np.argsort(said)
    for each, rows in zip(bins, np.split(order, 10), strict=True):
        cases = len(np.unique(patient[rows]))
        assert each.predicted == pytest.approx(said[rows].mean(), abs=2e-3)
        assert each.observed == pytest.approx(target[rows].mean(), abs=0.02)
        assert (each.low, each.high) == pytest.approx(wilson(each.observed * cases, cases), abs=0.02)
    assert len(reliability_bins(target, np.full(1000, 0.2), patient)) == 1, "all are equal"
