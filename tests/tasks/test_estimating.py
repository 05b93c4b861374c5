"""Intervals and paired tests of whole tasks."""

import math

import numpy as np
import pytest

from imitate.errors import UserError
from imitate.statistics import metrics, resampling
from imitate.statistics.intervals import fraction_interval, independent, spread
from imitate.tasks import estimating
from imitate.tasks.base import Estimate, Predictions
from imitate.tasks.estimating import Resampled, estimates, resampled_metrics
from imitate.tasks.zero_shot import ZeroShot

TARGET = (np.random.default_rng(0).random((240, 3)) < [0.4, 0.3, 0.05]).astype(float)
CLASSES = ["Edema", "Mass", "Hernia"]


def run(skill: float, seed: int) -> Predictions:
    score = skill * TARGET + np.random.default_rng(seed).normal(size=TARGET.shape)
    return {
        "target": TARGET,
        "score": score,
        "classes": np.array(CLASSES),
        "image_id": np.array([f"i{i}" for i in range(240)]),
        "patient": np.array([f"p{i // 2}" for i in range(240)]),
    }


def measured(runs: list[Predictions]) -> list[dict[str, float]]:
    return [ZeroShot().measure(each) for each in runs]


def test_an_estimate_is_the_mean_of_the_runs_with_an_interval_over_patients_and_seeds() -> None:
    runs = [run(1, 1), run(1.5, 2), run(0.8, 3)]
    found = estimates(ZeroShot(), runs, measured(runs), 200)["auroc/Mass"]
    values = [float(metrics.auroc(each["target"][:, 1], each["score"][:, 1])[0]) for each in runs]
    assert found.value == pytest.approx(np.mean(values)) and found.chance == 0.5
    drawn = resampling.bootstrap(
        [lambda counts, e=each: {"": metrics.auroc(TARGET[:, 1], e["score"][:, 1], counts)} for each in runs],
        runs[0]["patient"],
        resamples=200,
    )[""]
    positive = len(set(runs[0]["patient"][TARGET[:, 1] > 0]))
    negative = len(set(runs[0]["patient"][TARGET[:, 1] == 0]))
    expected = fraction_interval(
        np.mean(values), spread(independent(drawn, np.array(values)), support=(positive, negative))
    )
    assert (found.low, found.high) == pytest.approx(expected)


def test_rare_classes_and_macro_averages_with_one_have_no_interval() -> None:
    def found(positive: list[int]) -> dict[str, Estimate]:
        target = TARGET.copy()
        target[:, 2] = 0
        target[positive, 2] = 1
        runs = [{**run(1, 1), "target": target}]
        return estimates(ZeroShot(), runs, measured(runs), 50)

    five = found([0, 1, 2, 4, 6, 8])  # six images of five patients
    assert five["auroc/Hernia"].low is five["average-precision/Hernia"].high is None
    assert five["auroc/Hernia"].note == "no interval: it rests on 5 positive patients, at least 10 are needed"
    assert five["auroc/Mass"].low is not None and five["auroc/Mass"].note == ""
    four = found([0, 1, 2, 4, 6])
    assert four["auroc"].low is None
    assert four["auroc"].note == "no interval: its rarest class rests on 4 positive patients, at least 5 are needed"
    negative = found([each for each in range(240) if each not in (1, 3, 5)])
    assert negative["auroc/Hernia"].note == "no interval: it rests on 3 negative patients, at least 10 are needed"
    ten = found(list(range(0, 20, 2)))
    assert None not in (ten["auroc"].low, ten["auroc/Hernia"].low, ten["average-precision"].high)


def test_what_can_be_negative_has_a_symmetric_interval_wherever_its_values_lie() -> None:
    runs = [run(3, 1)]
    found = estimates(ZeroShot(), runs, measured(runs), 200)
    correlation, accuracy = found["oracle-mcc/Edema"], found["oracle-accuracy/Edema"]
    assert correlation.low > 0.5 and correlation.low + correlation.high == pytest.approx(2 * correlation.value)
    assert accuracy.low + accuracy.high < 2 * accuracy.value - 1e-4
    runs[0]["score"] = np.zeros((240, 3))
    still = estimates(ZeroShot(), runs, measured(runs), 50)["oracle-mcc/Edema"]
    assert (still.value, still.low, still.high) == (0, None, None)  # not Wilson's


def test_undefined_classes_are_named_and_a_constant_score_has_no_interval() -> None:
    runs = [run(1, 1)]
    runs[0]["target"] = np.where([True, True, False], TARGET, 0)
    found = estimates(ZeroShot(), runs, measured(runs), 50)
    assert found["auroc"].note == "undefined and left out: Hernia" and found["auroc/Hernia"].value is None
    runs[0]["score"] = np.zeros((240, 3))
    still = estimates(ZeroShot(), runs, measured(runs), 50)["auroc"]
    assert (still.value, still.low, still.high) == (0.5, None, None)


def test_models_that_know_different_classes_have_no_mean() -> None:
    other = {**run(1, 2), "classes": np.array(["Edema", "Mass", "Fibrosis"])}
    relabelled = {**run(1, 2), "target": 1 - TARGET}
    for second in (other, relabelled):
        runs = [run(1, 1), second]
        with pytest.raises(UserError, match="not measured on the same images, classes or phrases"):
            estimates(ZeroShot(), runs, measured(runs), 20)


def test_a_metric_that_one_seed_lacks_has_no_value_and_a_note_of_which() -> None:
    runs = [{**run(1, i), "called": run(1, i)["score"] > 0.5} for i in range(3)]
    runs[1]["called"] = np.where([True, False, True], runs[1]["called"], np.nan)
    found = estimates(ZeroShot(), runs, measured(runs), 20)
    assert found["f1/Mass"].value is None and found["f1/Edema"].value is not None
    assert found["f1/Mass"].note == "undefined in 1 of 3 seeds, so that there is no mean"


def test_a_test_is_paired_by_patient_and_by_seed() -> None:
    seeds = [run(1, i) for i in range(3)]
    better = [{**each, "score": each["score"] + 0.3 * TARGET} for each in seeds]
    a, b = (resampled_metrics(ZeroShot(), runs, resamples=200) for runs in (seeds, better))
    paired = estimating.tested(a, b, "auroc")
    assert paired.low is not None and paired.low > 0 and paired.p < 0.01
    assert paired.difference == pytest.approx(b.value("auroc") - a.value("auroc"))
    mixed = estimating.tested(a, resampled_metrics(ZeroShot(), [better[i] for i in (1, 2, 0)], resamples=200), "auroc")
    assert mixed.difference == pytest.approx(paired.difference) and mixed.p > 3 * paired.p
    fewer = estimating.tested(a, resampled_metrics(ZeroShot(), better[:2], resamples=200), "auroc")
    assert fewer.low is not None and fewer.p > paired.p
    same = estimating.tested(a, a, "auroc")
    assert (same.difference, same.low, same.p) == (0, None, 1)


def test_heads_of_one_pre_training_are_resampled_as_nested() -> None:
    """Two pre-trainings that differ much, with three heads each that do not, are two seeds and not six."""
    pretrained = (0, 0, 0, 1, 1, 1)
    one = [
        {**run(0.5 + 1.5 * of, 9), "score": run(0.5 + 1.5 * of, 9)["score"] + 1e-3 * i}
        for i, of in enumerate(pretrained)
    ]
    flat = estimates(ZeroShot(), one, measured(one), 100)["auroc/Mass"]
    nested = estimates(ZeroShot(), one, measured(one), 100, pretrained=pretrained)["auroc/Mass"]
    assert flat.value == nested.value
    assert nested.high - nested.low > 2 * (flat.high - flat.low)
    other = resampled_metrics(ZeroShot(), [run(0.1, i) for i in range(6)], resamples=100)
    as_nested, as_flat = (resampled_metrics(ZeroShot(), one, resamples=100, pretrained=p) for p in (pretrained, ()))
    assert estimating.tested(other, as_nested, "auroc/Mass").p > 10 * estimating.tested(other, as_flat, "auroc/Mass").p


def test_a_metric_that_cannot_be_known_has_no_p() -> None:
    few = [{key: value if key == "classes" else value[:16] for key, value in run(1, i).items()} for i in range(2)]
    a, b = (resampled_metrics(ZeroShot(), [each], resamples=20) for each in few)
    found = estimating.tested(a, b, "auroc/Edema")
    assert found.low is None and math.isnan(found.p) and not math.isnan(found.difference)


def test_a_fraction_is_between_0_and_1_but_for_rounding() -> None:
    for values, is_fraction in (
        ([0.0, 1.0, math.nan], True),
        ([-1e-10, 1 + 1e-10], True),
        ([0.5, 1.2], False),
        ([-0.2, 0.5], False),
        ([1.2, 1.4], False),
    ):
        resampled = Resampled([{}], {"a/b": np.array(values)}, {}, 5, ())
        assert resampled.is_fraction("a/b") is is_fraction
        assert not resampled._replace(unbounded=frozenset({"a"})).is_fraction("a/b")
