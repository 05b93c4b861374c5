"""Against scipy, closed forms and simulation; benchmarks/coverage.py has the larger simulations."""

import math

import numpy as np
import pytest
from scipy import stats

from imitate.statistics import intervals, metrics
from imitate.statistics.intervals import (
    Part,
    Runs,
    Spread,
    angle,
    difference_interval,
    fraction_interval,
    independent,
    interval,
    p_value,
    spread,
)
from imitate.statistics.resampling import bootstrap

NORMAL = np.random.default_rng(0).normal(size=4000)
NORMAL = (NORMAL - NORMAL.mean()) / NORMAL.std(ddof=1)
OTHER = np.random.default_rng(1).normal(size=4000)
OTHER -= OTHER.mean() + np.polyfit(NORMAL, OTHER - OTHER.mean(), 1)[0] * NORMAL
OTHER /= OTHER.std(ddof=1)  # uncorrelated with the first


def one(error: float = 0.1, *, value: float = 0.7, patients: int = 101) -> Spread:
    found = spread(Runs(value + error * NORMAL[None], np.array([value])), support=(patients,))
    assert found is not None
    return found


def test_one_run_varies_over_patients_by_student_s_t() -> None:
    found = one(patients=11)
    assert found.parts == (Part(pytest.approx(0.01 * 1.1), pytest.approx(10)),)
    reach = stats.t.ppf(0.975, 10) * 0.1 * math.sqrt(1.1)
    assert interval(0.7, found) == pytest.approx((0.7 - reach, 0.7 + reach))
    assert interval(0.7, found, level=0.5) == pytest.approx((0.7 - 0.1 * 0.73404, 0.7 + 0.1 * 0.73404), abs=1e-4)
    assert p_value(0.2, found) == pytest.approx(2 * stats.t.sf(0.2 / found.error, 10), rel=1e-6)
    assert p_value(-0.2, found) == p_value(0.2, found)
    assert p_value(5.0, one()) == intervals.FLOOR and p_value(0.0, found) == pytest.approx(1)


def test_an_interval_and_a_test_agree() -> None:
    found = Spread((Part(0.02, 50), Part(0.03, 2)), (51,))
    low, high = interval(0.1, found) or (0, 0)
    half = (high - low) / 2
    assert half / found.error == pytest.approx(0.4 * stats.t.ppf(0.975, 50) + 0.6 * stats.t.ppf(0.975, 2))
    assert p_value(half, found) == pytest.approx(0.05)


def test_what_runs_have_in_common_counts_once_and_what_each_has_by_itself_between_them() -> None:
    drawn = np.stack([0.5 * NORMAL + 0.4 * OTHER, 0.5 * NORMAL - 0.4 * OTHER])  # covariance .25 - .16
    found = spread(Runs(drawn, np.array([0.6, 0.8])), support=(1001,))
    assert found is not None
    common, between = found.parts
    assert common == Part(pytest.approx(0.09 * 1.001, rel=0.002), pytest.approx(1000))
    assert between == Part(pytest.approx(0.02 / 2), 1)
    about = spread(Runs(drawn + np.array([[0.6], [0.8]]), np.array([0.6, 0.8])), support=(1001,))
    assert about is not None and about.parts[0] == Part(pytest.approx(common.variance), common.freedom)
    contrary = spread(Runs(np.stack([NORMAL, -NORMAL]), np.array([0.6, 0.8])), support=(1001,))
    assert contrary is not None and contrary.parts[0].variance == pytest.approx(0)


def test_runs_that_vary_alike_over_patients() -> None:
    drawn = np.stack([0.3 * NORMAL, 0.3 * NORMAL, 0.3 * NORMAL])
    found = spread(Runs(drawn, np.array([0.5, 0.6, 0.7])), support=(1001,))
    assert found is not None and [part.variance for part in found.parts] == pytest.approx([0.09 * 1.001, 0.01 / 3])
    assert [part.freedom for part in found.parts] == pytest.approx([1000, 2])


def test_heads_of_one_pre_training_are_not_pre_trainings() -> None:
    values, drawn = np.array([0.1, 0.3, 0.6, 0.8]), np.tile(NORMAL, (4, 1))
    nested = independent(drawn, values, (0, 0, 1, 1))
    assert nested.values == pytest.approx([0.2, 0.7]) and nested.drawn.shape == (2, 4000)
    found = spread(nested, support=(100,))
    assert found is not None and found.parts[1] == Part(pytest.approx(0.125 / 2), 1)
    for origins in ((), (7, 7, 7, 7), (0, 1, 2, 3)):  # of one pre-training, its heads vary
        assert independent(drawn, values, origins).values == pytest.approx(values)
    order = independent(np.stack([NORMAL, 2 * NORMAL, 3 * NORMAL]), np.array([1.0, 2, 3]), ("a", "b", "a"))
    assert order.values == pytest.approx([2, 2]) and order.drawn[0] == pytest.approx(2 * NORMAL)


def test_methods_with_unlike_numbers_of_runs_vary_each_by_itself() -> None:
    first = Runs(np.stack([NORMAL, NORMAL]), np.array([0.0, 2.0]))
    second = Runs(np.tile(3 * NORMAL, (3, 1)), np.array([0.0, 3.0, 6.0]))
    found = spread(first, second, support=(1001,))
    assert found is not None
    assert [part.variance for part in found.parts] == pytest.approx([4 * 1.001, 2 / 2, 9 / 3])
    assert [part.freedom for part in found.parts] == pytest.approx([1000, 1, 2])


def test_degrees_of_freedom_are_those_of_welch_s_test() -> None:
    for positive, negative in ((15, 15), (12, 300), (2000, 10)):
        found = spread(Runs(NORMAL[None], np.array([0.0])), support=(positive, negative))
        fraction = (1 / positive) / (1 / positive + 1 / negative)
        expected = 1 / (fraction**2 / (positive - 1) + (1 - fraction) ** 2 / (negative - 1))
        assert found is not None and found.parts[0].freedom == pytest.approx(expected)


@pytest.mark.parametrize("support", [(9,), (9, 500), (500, 9), (0, 0)])
def test_fewer_than_ten_patients_of_a_kind_give_no_interval(support: tuple[int, ...]) -> None:
    assert spread(Runs(NORMAL[None], np.array([0.0])), support=support) is None
    enough = tuple(max(10, number) for number in support)
    assert spread(Runs(NORMAL[None], np.array([0.0])), support=enough) is not None
    assert interval(0.5, None) is None and fraction_interval(0.5, None) is None and math.isnan(p_value(0.5, None))


def test_a_mean_over_classes_needs_five_of_each_and_as_many_degrees_of_freedom() -> None:
    assert intervals.enough((5, 95, 5, 95, 5, 95))  # 13 degrees of freedom
    assert not intervals.enough((5, 195, 40, 160))  # 5.6: the rare class decides
    assert not intervals.enough((4, 96, 30, 70, 30, 70, 30, 70))
    assert intervals.enough((10,)) and not intervals.enough((9,)) and intervals.enough((10, 10))
    assert not intervals.enough((9, 9)) and intervals.enough((9, 9, 9))  # two are the kinds of one metric
    assert not intervals.enough((5, 35, 15))  # 8.5 degrees of freedom


def test_draws_without_the_metric_are_excluded_up_to_half_of_them() -> None:
    drawn = np.concatenate([NORMAL, np.full(4000, np.nan)])[None]
    found = spread(Runs(drawn, np.array([0.0])), support=(1001,))
    assert found is not None and found.error == pytest.approx(1, rel=1e-3)
    assert spread(Runs(np.append(drawn, [[np.nan]], axis=1), np.array([0.0])), support=(1001,)) is None
    assert spread(Runs(NORMAL[None], np.array([np.nan])), support=(1001,)) is None


def test_without_variance_nothing_can_be_said() -> None:
    still = spread(Runs(np.full((2, 50), 0.7), np.array([0.7, 0.7])), support=(100,))
    assert still is not None and interval(0.7, still) is None and fraction_interval(0.7, still) is None
    assert math.isnan(p_value(0.1, still)) and p_value(0.0, still) == 1.0
    assert math.isnan(p_value(math.nan, one())) and interval(math.nan, one()) is None


def test_a_fraction_is_symmetric_as_a_logit_and_stays_within_its_bounds() -> None:
    low, high = fraction_interval(0.9, one(0.05)) or (0, 0)
    middle = math.log(0.9 / 0.1)
    reach = stats.t.ppf(0.975, 100) * 0.05 * math.sqrt(1.01) / 0.09
    assert (low, high) == pytest.approx((1 / (1 + math.exp(reach - middle)), 1 / (1 + math.exp(-reach - middle))))
    low, high = fraction_interval(0.99, one(0.02)) or (0, 0)
    assert 0.5 < low < 0.9 and 0.999 < high < 1
    assert fraction_interval(math.nan, one()) is None


def test_angles() -> None:
    fractions = np.array([0, 0.25, 0.5, 1, 1 + 1e-15, -1e-15])
    assert angle(fractions) == pytest.approx(np.array([0, 1 / 3, 1 / 2, 1, 1, 0]) * math.pi / 2, abs=1e-12)


def test_a_fraction_at_a_bound_has_wilson_s_interval() -> None:
    still = spread(Runs(np.ones((1, 50)), np.array([1.0])), support=(300, 20))
    quantile = stats.t.ppf(0.975, 19)
    assert fraction_interval(1.0, still) == pytest.approx((20 / (20 + quantile**2), 1))
    assert fraction_interval(1 - 1e-16, still) == fraction_interval(1.0, still)
    assert fraction_interval(0.0, still) == pytest.approx((0, quantile**2 / (20 + quantile**2)))


def test_the_interval_of_a_difference_is_that_of_fractions_as_far_apart_as_angles() -> None:
    found = one(0.02)
    low, high = difference_interval(0.9, 0.8, found) or (0, 0)
    one_angle, two = (math.asin(math.sqrt(fraction)) for fraction in (0.9, 0.8))
    reach = found.critical(0.05) * found.error
    for end, change in ((low, one_angle - two - reach), (high, one_angle - two + reach)):
        first, second = ((one_angle + two + sign * change) / 2 for sign in (1, -1))
        assert end == pytest.approx(math.sin(first) ** 2 - math.sin(second) ** 2)
    assert low < 0.1 < high
    assert difference_interval(0.8, 0.9, found) == pytest.approx((-high, -low))
    touching = one(0.1 / stats.t.ppf(0.975, 100) / math.sqrt(1.01))  # reaches by .1
    second = math.sin(math.asin(math.sqrt(0.5)) + 0.1) ** 2
    assert difference_interval(0.5, second, touching) == pytest.approx(
        (-math.sin(math.pi / 2 + 0.1) * math.sin(0.2), 0)
    )
    assert p_value(-0.1, touching) == pytest.approx(0.05)
    assert (
        difference_interval(0.5, 0.5, one(9.0)) == pytest.approx((-1, 1))
        and difference_interval(0.5, 0.4, None) is None
    )


def test_the_interval_of_a_mean_covers_it() -> None:
    generator, covered = np.random.default_rng(0), 0
    for trial in range(300):
        values = generator.normal(1.0, 2.0, 20)
        drawn = bootstrap(
            [lambda counts, v=values: {"": metrics.mean(v, counts)}], np.arange(20), resamples=200, seed=trial
        )
        low, high = interval(values.mean(), spread(Runs(drawn[""], values.mean(keepdims=True)), support=(20,))) or (
            9,
            9,
        )
        covered += low <= 1.0 <= high
    assert 0.925 <= covered / 300 <= 0.975


@pytest.mark.parametrize(("seeds", "between"), [(2, 0.3), (3, 0.05), (3, 1.0), (5, 0.3)])
def test_seeds_that_vary_are_no_difference(seeds: int, between: float) -> None:
    """Patients' noise that all runs share, noise of each run, and a level of each run; there is no effect."""
    generator, rejected = np.random.default_rng(seeds), 0
    for _ in range(1000):
        own = generator.normal(0, 0.15, seeds)
        noise = np.sqrt(0.02) * generator.normal(size=(1, 60)) + 0.15 * generator.normal(size=(seeds, 60))
        values = generator.normal(0, between, seeds) + own + np.sqrt(0.02) * generator.normal()
        found = spread(Runs(noise, values), support=(61,))
        rejected += p_value(float(values.mean()), found) < 0.05
    assert 10 <= rejected <= 65


def test_holm() -> None:
    assert intervals.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    adjusted = intervals.holm([0.9, math.nan, 0.02])
    assert adjusted[0] == 0.9 and math.isnan(adjusted[1]) and adjusted[2] == 0.04
    assert intervals.holm([0.9, 0.8, 0.1]) == pytest.approx([1.0, 1.0, 0.3])
