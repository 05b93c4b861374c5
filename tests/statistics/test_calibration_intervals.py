"""Intervals of calibration errors: of scores whose true error is known."""

import numpy as np
import pytest
from scipy.special import expit

from imitate.statistics.calibration import ece, murphy, smooth_ece
from imitate.statistics.calibration_intervals import ERRORS, error_interval, fields, inverted, mean_of
from imitate.statistics.resampling import bootstrap


def drawn(patients: int, images: int, *, slope: float, shift: float, seed: int = 0):
    """Labels, and probabilities that are wrong by a slope and a shift on the logit scale, and whose images they are."""
    generator = np.random.default_rng(seed)
    true = generator.normal(-1.5, 1.5, patients * images)
    target = (generator.random(patients * images) < expit(true)).astype(float)
    return target, expit(shift + slope * true), np.repeat(np.arange(patients), images)


def found(target, said, patients):
    samples = bootstrap([fields(target, said)], patients, resamples=100)
    return inverted(target, said, {name: field[0] for name, field in samples.items()})


def test_the_norm_of_a_field_is_the_error():
    target, said, patients = drawn(200, 2, slope=1.5, shift=0.3)
    target[::7] = np.nan
    each = found(target, said, patients)
    assert each["ece"].value == pytest.approx(ece(target, said)[0])
    assert each["smooth-ece"].value == pytest.approx(smooth_ece(target, said)[0], abs=1e-6)
    assert each["reliability"].value == pytest.approx(murphy(target, said).reliability[0])
    both = mean_of([each["ece"], each["smooth-ece"]])
    assert both.value == pytest.approx((each["ece"].value + each["smooth-ece"].value) / 2)
    low, high = error_interval(both)
    assert low < high


@pytest.mark.parametrize(("images", "shift", "truth"), [(1, 1.0, 0.158), (2, 1.0, 0.158), (1, 3.0, 0.4915)])
def test_a_large_error_is_between_its_ends(images, shift, truth):
    target, said, patients = drawn(1500, images, slope=1.0, shift=shift)
    each = found(target, said, patients)
    for name in ("ece", "smooth-ece"):
        low, high = error_interval(each[name])
        assert low < truth < high and high - low < 0.06
        assert low < each[name].value < high


def test_where_nothing_is_wrong_intervals_begin_at_0_and_percentiles_do_not():
    target, said, patients = drawn(400, 1, slope=1.0, shift=0.0, seed=5)
    each = found(target, said, patients)
    assert [error_interval(each[name])[0] for name in ERRORS] == [0, 0, 0]
    samples = bootstrap([lambda counts: {"ece": ece(target, said, counts)}], patients, resamples=100)["ece"][0]
    assert np.quantile(samples, 0.025) > 0.03 and np.quantile(samples, 0.5) > each["ece"].value
