"""Curves of cross-validation against the metrics within folds, whose areas they have."""

from pathlib import Path

import numpy as np
import pytest
import results_files
import sklearn.metrics

from imitate.report import curves, figures, folds
from imitate.report.folds import Scored
from imitate.report.groups import read_groups
from imitate.statistics import metrics


def _run(seed: int, *, count: int = 3) -> Scored:
    """Scores with ties; each fold has a scale of its own; the last has no negative image."""
    generator = np.random.default_rng(seed)
    fold = generator.integers(0, count, 60)
    target = (generator.random(60) < 0.3).astype(float)
    target[fold == count - 1] = 1
    return Scored(target, generator.integers(0, 9, 60) + target + 100.0 * fold, fold)


@pytest.mark.parametrize("seed", range(4))
def test_areas_are_the_metrics_within_folds(seed: int) -> None:
    run = _run(seed)
    false, true = folds.roc(run)
    assert (np.diff(false) >= 0).all() and (np.diff(true) >= -1e-12).all()
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    within = metrics.within(metrics.auroc, run.fold, run.target, run.score, None)[0]
    assert sklearn.metrics.auc(false, true) == pytest.approx(within)
    pooled = sklearn.metrics.roc_auc_score(run.target, run.score)
    assert abs(pooled - within) > 0.03
    recall, precision = folds.precision_recall(run)
    expected = metrics.within(metrics.average_precision, run.fold, run.target, run.score, None)[0]
    assert (np.diff(recall, prepend=0) * precision).sum() == pytest.approx(expected)
    constant = metrics.within(metrics.average_precision, run.fold, run.target, 0 * run.score, None)[0]
    assert folds.positive_rate(run) == pytest.approx(constant)


def test_the_mean_of_two_curves_point_by_point() -> None:
    """One fold is perfect, the other at chance but for a jump at a false-positive rate of one half."""
    target, fold = np.array([1.0, 0, 0, 1, 1, 0, 0]), np.array([0, 0, 0, 1, 1, 1, 1])
    run = Scored(target, np.array([9.0, 1, 2, 5, 5, 5, 1]), fold)
    x, y = folds.roc(run)
    assert x.tolist() == [0, 0, 0.5, 0.5, 1, 1]
    perfect, other = 2, 4  # pairs
    expected = [0, perfect, perfect + other, perfect + other, perfect + other, perfect + other]
    np.testing.assert_allclose(y * (perfect + other), expected)


def test_without_folds_the_curves_are_scikit_learn_s() -> None:
    run = _run(0)._replace(fold=None)
    np.testing.assert_array_equal(folds.roc(run), sklearn.metrics.roc_curve(run.target, run.score)[:2])
    assert folds.positive_rate(run) == run.target.mean()


def test_a_report_says_that_curves_are_means_over_folds(tmp_path: Path) -> None:
    (group,) = read_groups([results_files.classification(tmp_path / "a.json", n=200)])
    run = group.entries[0].predictions()[0]
    for fold, drawn in ((np.arange(200) % 2, True), ((run["target"][:, 1] > 0).astype(int), False)):
        found = curves.classes(group, {"IMITATE": [{**run, "fold": fold}]}, figures.styles(["IMITATE"]))
        assert "the mean of the folds" in found[0].summary
        assert any("ROC curves of Edema" in figure.images for figure in found[0].figures) == drawn
