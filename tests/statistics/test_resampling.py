"""Against naive computations and simulation."""

import json
import math
from functools import partial
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from imitate.errors import UserError
from imitate.statistics import metrics, resampling

POSITIVE, NEGATIVE = NormalDist(1), NormalDist(0)
SCORES = [POSITIVE.inv_cdf((i + 0.5) / 1000) for i in range(1000)]
TRUE_PRECISION = np.mean(  # average precision of one positive in ten
    [(tail := 0.1 * (1 - POSITIVE.cdf(s))) / (tail + 0.9 * (1 - NEGATIVE.cdf(s))) for s in SCORES]
)


def _mean_of(values: np.ndarray) -> resampling.Resample:
    return lambda counts: {"mean": metrics.mean(values, counts)}


def test_the_interval_of_a_mean_covers_it() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        values = generator.normal(1.0, 2.0, 60)
        low, high = resampling.interval(
            resampling.bootstrap([_mean_of(values)], np.arange(60), resamples=300, seed=trial)["mean"]
        )
        covered += low <= 1.0 <= high
    assert 0.89 <= covered / 200 <= 0.985


def test_a_bias_corrected_interval_moves_by_twice_the_bias() -> None:
    """Where the resamples are normal, the correction has this closed form."""
    drawn = np.random.default_rng(0).normal(0.6, 0.05, 20_000)
    low, high = resampling.interval(drawn, estimate=0.57)
    assert (low, high) == pytest.approx((0.54 - 1.96 * 0.05, 0.54 + 1.96 * 0.05), abs=0.004)
    assert resampling.interval(drawn, estimate=float(np.median(drawn))) == pytest.approx(resampling.interval(drawn))
    assert np.isfinite(resampling.interval(drawn, estimate=2.0)).all()  # above every resample
    assert resampling.interval(np.full(9, np.nan), estimate=0.5) is None


def test_the_interval_of_average_precision_errs_on_both_sides_alike() -> None:
    """Resamples hold positives twice and so score higher: plain percentiles lie too high."""
    above, below = np.zeros(2), np.zeros(2)
    for trial in range(200):
        generator = np.random.default_rng(trial + 1)
        target = (generator.random(150) < 0.1).astype(float)
        score = target + generator.normal(size=150)
        run = partial(_average_precision, target, score)
        drawn = resampling.bootstrap([run], np.arange(150), resamples=300, seed=trial)["ap"]
        for i, estimate in enumerate((None, float(metrics.average_precision(target, score)[0]))):
            low, high = resampling.interval(drawn, estimate=estimate)
            above[i] += low > TRUE_PRECISION
            below[i] += high < TRUE_PRECISION
    assert above[0] > 3 * below[0]
    assert 0.7 < above[1] / below[1] < 1.3 and (above + below)[1] <= (above + below)[0]


def _average_precision(target: np.ndarray, score: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    return {"ap": metrics.average_precision(target, score, counts)}


def test_patients_not_images_are_the_unit() -> None:
    per_patient = np.random.default_rng(1).normal(size=50)
    images, patients = np.repeat(per_patient, 8), np.repeat(np.arange(50), 8)
    by_patient = resampling.bootstrap([_mean_of(images)], patients, seed=3)["mean"]
    by_image = resampling.bootstrap([_mean_of(images)], np.arange(400), seed=3)["mean"]
    assert by_patient.std() == pytest.approx(per_patient.std() / math.sqrt(50), rel=0.1)
    assert by_image.std() < 0.5 * by_patient.std()


def test_runs_are_resampled_too() -> None:
    values = np.random.default_rng(2).normal(size=500)
    alike = resampling.bootstrap([_mean_of(values)] * 3, np.arange(500))["mean"]
    apart = resampling.bootstrap([_mean_of(values + shift) for shift in (-1, 0, 1)], np.arange(500))["mean"]
    assert apart.std() == pytest.approx(math.hypot(alike.std(), math.sqrt(2 / 3 / 3)), rel=0.1)
    single = resampling.bootstrap([_mean_of(values)], np.arange(500))["mean"]
    assert len(single) == 1000
    np.testing.assert_allclose(alike, single)


def test_one_seed_draws_one_sample_whatever_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(30.0)
    whole = resampling.bootstrap([_mean_of(values)], np.arange(30), resamples=50)["mean"]
    monkeypatch.setattr(resampling, "CHUNK", 7 * 30)
    np.testing.assert_array_equal(whole, resampling.bootstrap([_mean_of(values)], np.arange(30), resamples=50)["mean"])
    assert not np.array_equal(
        whole, resampling.bootstrap([_mean_of(values)], np.arange(30), resamples=50, seed=1)["mean"]
    )


def test_degenerate_resamples_are_left_out_and_too_many_leave_no_interval() -> None:
    assert resampling.interval(np.array([math.nan, 1.0, 1.0, 3.0])) == pytest.approx((1.0, 2.9))
    assert resampling.interval(np.array([math.nan, math.nan, 1.0])) is None
    target = np.array([1.0, *[0.0] * 9])
    drawn = resampling.bootstrap([lambda c: {"auroc": metrics.auroc(target, target, c)}], np.arange(10))["auroc"]
    assert np.isnan(drawn).mean() == pytest.approx(0.9**10, abs=0.05)
    assert resampling.interval(drawn) == (1.0, 1.0)


def test_bootstrap_p() -> None:
    assert resampling.bootstrap_p(np.full(999, 0.1)) == pytest.approx(2 / 1000)
    assert resampling.bootstrap_p(np.zeros(999)) == 1.0
    assert resampling.bootstrap_p(np.concatenate([np.full(25, -1.0), np.full(974, 1.0)])) == pytest.approx(0.052)
    assert math.isnan(resampling.bootstrap_p(np.array([math.nan])))


def _naive_delong(target: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """AUROC and variance of ``first``, variance of the difference: all pairs, covariances written out."""
    components = []
    for score in (first, second):
        positive, negative = score[target == 1], score[target == 0]
        wins = np.array([[float(p > n) + 0.5 * float(p == n) for n in negative] for p in positive])
        components.append((wins.mean(1), wins.mean(0)))
    covariance = sum(np.cov(*pair) / len(pair[0]) for pair in zip(*components, strict=True))
    (a, ab), (_, b) = covariance
    return float(components[0][0].mean()), float(a), float(a + b - 2 * ab)


@pytest.mark.parametrize("levels", [3, 1000])
def test_delong_equals_all_pairs(levels: int) -> None:
    generator = np.random.default_rng(levels)
    target = np.array([1, 1, 0, 0, *generator.integers(0, 2, 56)])
    first, second = (generator.integers(0, levels, 60) + target * levels // 3 for _ in range(2))
    auroc, variance, of_difference = _naive_delong(target, first, second)
    assert resampling.delong_variance(target, first) == pytest.approx(variance)
    test = resampling.delong_test(target, first, second)
    assert test.error == pytest.approx(math.sqrt(of_difference))
    assert test.difference == pytest.approx(auroc - metrics.auroc(target, second)[0])
    assert test.p == pytest.approx(math.erfc(abs(test.difference) / test.error / math.sqrt(2)))


def test_delong_of_identical_separable_and_undefined_scores() -> None:
    target = np.array([0, 1, 0, 1, 1])
    assert resampling.delong_test(target, target, target).p == 1.0
    assert resampling.delong_test(target, target, 1 - target) == (1.0, 0.0, 0.0)
    assert math.isnan(resampling.delong_variance(np.array([0, 0, 1]), np.arange(3.0)))


def test_delong_counts_a_patient_once() -> None:
    generator = np.random.default_rng(4)
    target = generator.integers(0, 2, 80)
    score = target + generator.normal(size=80)
    single = resampling.delong_variance(target, score)
    repeated = resampling.delong_variance(np.repeat(target, 5), np.repeat(score, 5), np.repeat(np.arange(80), 5))
    assert repeated == pytest.approx(single, rel=0.05)
    assert resampling.delong_variance(target, score, np.arange(80)) == pytest.approx(single)
    assert resampling.delong_variance(np.repeat(target, 5), np.repeat(score, 5)) < 0.3 * single


def test_delong_p_is_uniform_under_the_null() -> None:
    generator = np.random.default_rng(5)
    p = []
    for _ in range(300):
        target = generator.integers(0, 2, 100)
        p.append(resampling.delong_test(target, *(target + generator.normal(size=(2, 100)))).p)
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.035)
    assert np.mean(p) == pytest.approx(0.5, abs=0.06)


def test_holm() -> None:
    assert resampling.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    adjusted = resampling.holm([0.9, math.nan, 0.02])
    assert adjusted[0] == 0.9 and math.isnan(adjusted[1]) and adjusted[2] == 0.04


def _population() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(6)
    patients = np.array([f"p{i // 2:04d}" for i in range(4000)])
    return patients, (generator.random((4000, 3)) < [0.3, 0.1, 0.01]).astype(float)


def test_subsets_are_nested_stratified_and_seeded() -> None:
    patients, labels = _population()
    small, large = (resampling.subset(patients, labels, share, seed=0) for share in (0.01, 0.1))
    assert (len(small), len(large)) == (20, 200)
    assert set(small) < set(large) <= set(patients)
    assert small != resampling.subset(patients, labels, 0.01, seed=1)
    assert resampling.subset(patients, None, 1.0, seed=0) == sorted(set(patients))
    rare = set(patients[labels[:, 2] > 0])
    assert abs(len(rare & set(large)) - 0.1 * len(rare)) <= 1
    assert resampling.subset(patients, np.where(labels > 0, 1, np.nan), 0.1, seed=0) == large


@pytest.mark.parametrize(("fraction", "message"), [(0.0001, "nobody"), (0.0, "not in"), (1.5, "not in")])
def test_a_fraction_without_patients_is_told(fraction: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resampling.subset(*_population(), fraction, 0)


def test_a_stored_subset_is_read_again_and_verified(tmp_path: Path) -> None:
    patients, labels = _population()
    path = tmp_path / "subsets" / "1.json"
    chosen = resampling.stored_subset(path, patients, labels, fraction=0.01, seed=0)
    assert resampling.stored_subset(path, patients, None, fraction=0.01, seed=0) == chosen
    assert [file.name for file in path.parent.iterdir()] == ["1.json"]
    for other in ({"fraction": 0.02, "seed": 0}, {"fraction": 0.01, "seed": 1}):
        with pytest.raises(UserError, match="was drawn with"):
            resampling.stored_subset(path, patients, labels, **other)
    with pytest.raises(UserError, match="drawn_from"):
        resampling.stored_subset(path, patients[:100], labels[:100], fraction=0.01, seed=0)
    stored = json.loads(path.read_text())
    for damaged in (json.dumps({**stored, "patients": stored["patients"][1:]}), "{", "[]"):
        path.write_text(damaged)
        with pytest.raises(UserError, match="damaged"):
            resampling.stored_subset(path, patients, labels, fraction=0.01, seed=0)


def test_an_interval_holds_its_level_and_needs_half_of_the_resamples() -> None:
    assert resampling.interval(np.arange(1001.0)) == pytest.approx((25, 975))
    assert resampling.interval(np.arange(1001.0), level=0.5) == pytest.approx((250, 750))
    assert resampling.interval(np.array([math.nan, 3.0])) == (3.0, 3.0)
    assert resampling.interval(np.array([math.nan, math.nan, 3.0])) is None


def test_holm_goes_up_to_one() -> None:
    assert resampling.holm([0.9, 0.8, 0.1]) == pytest.approx([1.0, 1.0, 0.3])


def test_a_fraction_of_one_patient_is_that_patient(tmp_path: Path) -> None:
    patients = np.array([f"p{number}" for number in range(10)])
    assert len(resampling.subset(patients, None, 0.1, 0)) == 1
    chosen = resampling.stored_subset(tmp_path / "a" / "b" / "s.json", patients, None, fraction=0.1, seed=0)
    stored = json.loads((tmp_path / "a" / "b" / "s.json").read_text())
    assert stored["patients"] == chosen and stored.keys() == {"fraction", "seed", "drawn_from", "sha256", "patients"}
