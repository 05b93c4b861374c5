"""Of scores whose probabilities are known: what a calibration measures, and what it refuses."""

import logging

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import brier_score_loss, confusion_matrix

from imitate.errors import UserError
from imitate.statistics import operating
from imitate.statistics.resampling import bootstrap
from imitate.tasks.base import HELD, Predictions
from imitate.tasks.calibrating import _in_all
from imitate.tasks.calibration import TEST, VALIDATION, Recalibration, head_scores
from imitate.tasks.calibration_points import points
from imitate.tasks.estimating import estimates

NAMES = ["Edema", "Mass"]


def part(n: int, seed: int, *, images: int = 1, prefix: str = "") -> Predictions:
    """Scores that are logits of the true probabilities, but for a slope and a shift of their own in each class."""
    generator = np.random.default_rng(seed)
    true = generator.normal(-1, 1.5, (n * images, 2))
    target = (generator.random((n * images, 2)) < expit(true)).astype(float)
    score = true / np.array([2.0, 0.5]) + np.array([0.5, -0.3])
    patient = np.repeat([f"{prefix}{seed}-{i}" for i in range(n)], images)
    names = np.array([f"{owner}-{i}" for i, owner in enumerate(patient)])
    return {"image_id": names, "patient": patient, "target": target, "score": score, "before": expit(score)}


def run(task: Recalibration | None = None, *, held: int = 400, test: int = 300, images: int = 1) -> Predictions:
    both = part(held, 1, images=images), part(test, 2, images=images)
    return (task or Recalibration()).joined(*both, classes=np.array(NAMES))


def test_what_is_measured_is_of_the_test_images_alone():
    task, found = Recalibration(), run()
    measured, test = task.measure(found), found["part"] == TEST
    for name, column in zip(NAMES, range(2), strict=True):
        target = found["target"][test, column]
        for when, kind in (("", "probability"), ("-before", "before")):
            said = found[kind][test, column]
            assert measured[f"brier{when}/{name}"] == pytest.approx(brier_score_loss(target, said))
        at = operating.threshold(
            *(found[key][~test, column] for key in ("target", "score")), aim="sensitivity", at=0.9
        )[0]
        tn, fp, fn, tp = map(int, confusion_matrix(target, found["score"][test, column] >= at).ravel())
        expected = tp / (tp + fn), tn / (tn + fp), tp / (tp + fp), tn / (tn + fn)
        rates = [measured[f"{rate}/{name}"] for rate in ("sensitivity", "specificity", "ppv", "npv")]
        assert rates == pytest.approx(expected)
        point = points(task, found)[column]
        assert point.threshold == at and point.counts == {"tp": tp, "fp": fp, "fn": fn, "tn": tn}
        assert point.wilson["sensitivity"] == pytest.approx(operating.wilson(tp, tp + fn))
    assert measured["brier"] == pytest.approx((measured["brier/Edema"] + measured["brier/Mass"]) / 2)
    assert next(iter(measured)) == "brier"
    assert measured["slope-before/Edema"] == pytest.approx(2, abs=0.8)
    assert measured["slope/Edema"] == pytest.approx(1, abs=0.4)
    assert measured["smooth-ece"] < 0.5 * measured["smooth-ece-before"]


def test_a_bootstrap_sample_draws_the_patients_of_both_parts_and_chooses_the_threshold_again():
    task, found = Recalibration(), run(held=60, test=50, images=2)
    seen = []

    def resample(counts):
        seen.append(counts)
        return task.resample(found, counts)

    drawn = bootstrap([resample], found["patient"], strata=found["part"], resamples=8)
    counts = np.concatenate(seen)
    assert (counts[:, found["part"] == TEST].sum(1) == 100).all() and (counts[:, ::2] == counts[:, 1::2]).all()
    held = found["part"] == VALIDATION
    for sample, sensitivity in zip(counts, drawn["sensitivity/Mass"][0], strict=True):
        rows = np.repeat(np.arange(len(held)), sample)
        some, other = rows[held[rows]], rows[~held[rows]]
        at = operating.threshold(found["target"][some, 1], found["score"][some, 1], aim="sensitivity", at=0.9)
        assert sensitivity == operating.calls(found["target"][other, 1], found["score"][other, 1], at).sensitivity[0]


def test_intervals_of_a_rate_are_wider_than_wilsons_by_the_choice_of_the_threshold():
    task, found = Recalibration(), run(held=100, test=1500)
    metrics = estimates(task, [found], [task.measure(found)], 100)
    wilson = points(task, found)[0].wilson["specificity"]
    estimate = metrics["specificity/Edema"]
    assert estimate.high - estimate.low > 1.5 * (wilson[1] - wilson[0])
    assert metrics["ece/Edema"].low is not None and metrics["brier/Edema"].chance == pytest.approx(0.2, abs=0.05)
    assert metrics["resolution/Edema"].low < metrics["resolution/Edema"].value < metrics["resolution/Edema"].high + 0.02


def test_a_stated_prevalence():
    task = Recalibration(prevalence=("0.01", "Mass=0.2"))
    measured = task.measure(run(task))
    for name, prevalence in (("Edema", 0.01), ("Mass", 0.2)):
        sensitivity, specificity = (np.array([measured[f"{rate}/{name}"]]) for rate in ("sensitivity", "specificity"))
        expected = operating.ppv_at(sensitivity, specificity, prevalence)[0]
        assert measured[f"ppv-at-prevalence/{name}"] == pytest.approx(expected)
    assert "ppv-at-prevalence" not in Recalibration().measure(run())


def test_predictive_values_rest_on_the_patients_that_are_called_so():
    """All of three that are called positive are: that is no PPV of at least 93%, as of as many as have the finding."""
    task = Recalibration(aim="specificity", at=0.99, prevalence=("0.01",))
    held, test = part(400, 1), part(300, 2)
    test["score"][:, 0] = np.minimum(test["score"][:, 0], 0)
    test["score"][np.flatnonzero(test["target"][:, 0])[:3], 0] = 9
    found = task.joined(held, test, classes=np.array(NAMES))
    metrics = estimates(task, [found], [task.measure(found)], 100)
    ppv = metrics["ppv/Edema"]
    assert (ppv.value, ppv.low, ppv.high) == (1, None, None)
    assert ppv.note == "no interval: it rests on 3 patients, at least 10 are needed"
    assert metrics["npv/Edema"].low < metrics["npv/Edema"].value < metrics["npv/Edema"].high
    at_prevalence = metrics["ppv-at-prevalence/Edema"]
    assert (at_prevalence.value, at_prevalence.low) == (1, None), "without a false alarm its rate is not known"
    assert metrics["npv-at-prevalence/Edema"].low is not None
    several = estimates(task, [run(task), found], [task.measure(each) for each in (run(task), found)], 20)
    assert several["ppv/Edema"].low is None, "as of the run with the fewest"


def test_several_images_of_a_patient_are_one_case_to_wilson():
    once, twice = (points(Recalibration(), run(images=images))[0] for images in (1, 2))
    widths = [each.wilson["sensitivity"][1] - each.wilson["sensitivity"][0] for each in (once, twice)]
    assert widths[1] == pytest.approx(widths[0], rel=0.25), "not smaller by the square root of 2"


def test_a_class_that_cannot_be_calibrated_is_one_line_and_leaves_the_macro_average(caplog):
    held, test = part(400, 1), part(300, 2)
    held["target"][:, 1] = 0
    with caplog.at_level(logging.WARNING):
        found = Recalibration().joined(held, test, classes=np.array(NAMES))
    assert caplog.messages == ["Mass stays uncalibrated: no validation image is positive"]
    assert np.isnan(found["probability"][:, 1]).all()
    measured = Recalibration().measure(found)
    assert measured["brier"] == measured["brier/Edema"] and measured["brier-before"] == measured["brier-before/Edema"]
    assert "brier/Mass" not in measured and np.isnan(measured["sensitivity/Mass"])
    assert [point.name for point in points(Recalibration(), found)] == ["Edema"]
    held["target"][:, 0] = 1
    with pytest.raises(UserError, match="no class of Edema, Mass can be calibrated: the lines above say why"):
        Recalibration().joined(held, test, classes=np.array(NAMES))


def test_a_class_that_one_seed_cannot_calibrate_is_in_no_mean_over_seeds(caplog):
    both, one = run(), run()
    one["probability"][:, 1] = np.nan
    with caplog.at_level(logging.WARNING):
        runs = _in_all([one, both])
    assert caplog.messages == ["not calibrated in every seed, so without metrics of probabilities: Mass"]
    per_seed = [Recalibration().measure(each) for each in runs]
    assert per_seed[0] == per_seed[1] and per_seed[1]["brier"] == per_seed[1]["brier/Edema"]
    assert not np.isnan(both["probability"]).any(), "its own calibration stays"
    neither = run()
    neither["probability"][:, 0] = np.nan
    with pytest.raises(UserError, match="no class of Edema, Mass can be calibrated in each seed"):
        _in_all([one, neither])


def test_isotonic_of_few_images_is_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        run(Recalibration(calibrator="isotonic"))
    assert caplog.messages[0] == (
        "Edema is calibrated, but: with fewer than 1,000 images, 400, isotonic follows chance: prefer platt"
    )


def test_patients_in_both_parts_are_refused():
    held, test = part(40, 1), part(30, 2)
    test["patient"][:2] = held["patient"][:2]
    with pytest.raises(UserError, match="patient 1-0 and 1 more is in both the validation and the test images"):
        Recalibration().joined(held, test, classes=np.array(NAMES))


def test_scores_of_exclusive_classes_are_logits_of_their_probabilities():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(300, 3)) * 2
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    target = np.eye(3)[[generator.choice(3, p=p) for p in probability]]
    rows = np.arange(300)
    given = {"image_id": rows.astype(str), "patient": rows.astype(str), "target": target, "score": np.log(probability)}
    held = {f"{HELD}{name}": value[:150] for name, value in given.items()}
    found = Recalibration().of_head(
        {**{k: v[150:] for k, v in given.items()}, **held, "classes": np.array(["a", "b", "c"])}
    )
    assert found["before"] == pytest.approx(probability) and expit(found["score"]) == pytest.approx(probability)
    with pytest.raises(
        UserError, match="there are no scores of validation images: delete the results and evaluate again"
    ):
        Recalibration().of_head({**given, "classes": np.array(["a", "b", "c"])})


def test_logits_stay_logits_where_the_labels_of_these_images_exclude_each_other_by_chance() -> None:
    generator = np.random.default_rng(0)
    target = np.eye(3)[generator.integers(3, size=120)]
    logits = target * 2 + generator.normal(size=target.shape)
    names = np.arange(120).astype(str)
    every = {"target": target, "score": logits, "image_id": names, "patient": names}
    held = {f"{HELD}{name}": value[60:] for name, value in every.items()}
    run = {**{name: value[:60] for name, value in every.items()}, **held, "classes": np.array(["a", "b", "c"])}
    found = Recalibration().of_head(run)
    assert found["score"] == pytest.approx(np.concatenate([logits[60:], logits[:60]]))


def test_scores_of_exclusive_classes_become_logits_and_others_are_logits() -> None:
    logits = np.array([[0.5, -1.0, 2.0], [1.0, 0.0, -3.0]])
    kept = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    probability = np.exp(kept)
    assert head_scores(kept) == pytest.approx(np.log(probability / (1 - probability)))
    assert head_scores(logits) == pytest.approx(logits)
    assert head_scores(kept[:, :1]) == pytest.approx(kept[:, :1]), "a class alone excludes nothing"
    with pytest.raises(UserError, match="the scores lie between 0 and 1, as probabilities do"):
        head_scores(probability)


def test_logits_of_a_head_stay_logits_where_each_image_has_one_class() -> None:
    """Trained on images with several classes, tested on images with one: these labels look as if they exclude."""
    held, test = (part(400, seed) for seed in (1, 2))
    for each in (held, test):
        each["target"] = np.eye(2)[each["target"][:, 0].astype(int)]
    given = {key: test[key] for key in ("image_id", "patient", "target", "score")}
    given |= {f"{HELD}{key}": held[key] for key in ("image_id", "patient", "target", "score")}
    found = Recalibration().of_head({**given, "classes": np.array(NAMES)})
    assert found["before"] == pytest.approx(expit(np.concatenate([held["score"], test["score"]])))
