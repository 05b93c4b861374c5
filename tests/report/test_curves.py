from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import results_files

from imitate.report import curves, figures
from imitate.report.groups import read_groups
from imitate.report.page import Details, Figure

LOOK = figures.styles(["IMITATE", "random"])


def alts(parts: Sequence[Details | Figure]) -> list[str]:
    found = [each for part in parts for each in (part.figures if isinstance(part, Details) else [part])]
    return [alt for figure in found for alt in figure.images]


def test_each_class_with_both_labels_has_its_curves(tmp_path: Path) -> None:
    (group,) = read_groups([results_files.classification(tmp_path / "a.json", n=200)])
    runs = {"IMITATE": group.entries[0].predictions()}
    drawn = curves.classes(group, runs, LOOK)
    assert alts(drawn) == [
        f"{kind} of {name}"
        for name in ("Atelectasis", "Edema", "Pleural Effusion")
        for kind in ("ROC curves", "Precision-recall curves", "Calibration")
    ]
    target = runs["IMITATE"][0]["target"][:, 0]
    assert (
        f"Atelectasis: {int(np.nansum(target))} of {int((~np.isnan(target)).sum())} images are positive"
        == drawn[0].figures[0].caption
    )


def test_cosines_are_not_calibrated(tmp_path: Path) -> None:
    (group,) = read_groups([results_files.classification(tmp_path / "a.json", task="zero-shot", n=200)])
    drawn = curves.classes(group, {"IMITATE": group.entries[0].predictions()}, LOOK)
    assert not any("Calibration" in alt for alt in alts(drawn))


def test_no_class_has_both_labels(tmp_path: Path) -> None:
    (group,) = read_groups([results_files.classification(tmp_path / "a.json", n=200)])
    run = group.entries[0].predictions()[0]
    assert curves.classes(group, {"IMITATE": [{**run, "target": np.zeros_like(run["target"])}]}, LOOK) == []


def test_methods_may_know_other_classes(tmp_path: Path) -> None:
    (group,) = read_groups([results_files.classification(tmp_path / "a.json", n=200)])
    run = group.entries[0].predictions()[0]
    fewer = {**run, "classes": run["classes"][1:3], "target": run["target"][:, 1:3], "score": run["score"][:, 1:3]}
    scored = curves._of_class({"IMITATE": [run], "random": [fewer]}, "Edema")
    np.testing.assert_array_equal(scored["random"][0].score, scored["IMITATE"][0].score)
    assert list(curves._of_class({"IMITATE": [run], "random": [fewer]}, "Atelectasis")) == ["IMITATE"]


def test_label_efficiency_needs_several_fractions(tmp_path: Path) -> None:
    paths = [results_files.segmentation(tmp_path / f"{each}.json", fraction=each) for each in (0.01, 1.0)]
    (one,), (two,) = read_groups(paths[:1]), read_groups(paths)
    assert [alt.split(" over ")[0] for alt in alts(curves.summary(two, LOOK))[:-1]] == [
        "Dice",
        "Dice, positives only",
        "false-positive rate",
    ]
    assert len(alts(curves.summary(one, LOOK))) == 1


def test_the_forest_has_the_main_metric_and_its_classes_first(tmp_path: Path) -> None:
    (group,) = read_groups([results_files.classification(tmp_path / "a.json", n=200)])
    (alt,) = alts(curves.summary(group, LOOK))
    assert "AUROC, AUROC · Atelectasis, AUROC · Edema, AUROC · Pleural Effusion, average precision;" in alt


def test_retrieval_has_bars_for_each_branch_and_direction(tmp_path: Path) -> None:
    (group,) = read_groups([results_files.retrieval(tmp_path / "a.json")])
    assert alts([*curves.summary(group, LOOK), *curves.folded(group, LOOK)]) == [
        f"Recall at k, {way}, by {branch}"
        for branch in ("both", "findings", "impression")
        for way in ("image → text", "text → image")
    ]


def test_probabilities_of_logits_and_of_exclusive_classes() -> None:
    logits = np.array([[0.0, 2.0], [-800.0, 800.0]])
    np.testing.assert_allclose(curves.probabilities(logits), [[0.5, 0.880797], [0, 1]], atol=1e-6)
    fractions = np.array([[0.2, 0.3, 0.5], [0.9, 0.05, 0.05]])
    np.testing.assert_allclose(curves.probabilities(np.log(fractions)), fractions)


@pytest.mark.filterwarnings("error")
def test_probabilities_do_not_overflow() -> None:
    assert curves.probabilities(np.array([[-1e4], [1e4]])).tolist() == [[0.0], [1.0]]
