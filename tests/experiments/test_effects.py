"""Effects of a factorial study, against the formulas of an analysis of variance written as loops."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from effects import FACTORS, cells, contrasts, weights

NAMES = list(product(*FACTORS.values()))


def test_cells_are_named_as_the_study_names_its_methods():
    assert cells() == NAMES and len(NAMES) == 18


def test_planted_effects_are_found_and_nothing_else():
    """Levels gain 2 points, 3 more if pooled, and 6 more in one cell; seeds shift all cells alike, which is no error."""
    generator = np.random.default_rng(0)
    values = np.tile([0.0, 5.0, -5.0], (18, 1))
    for i, (aggregation, levels, texts) in enumerate(NAMES):
        values[i] += 2 * (levels == "all levels") + 3 * (levels == "all levels" and aggregation == "pooled")
        values[i] += texts == "sections"
        values[i] += 6 * (aggregation == "spatial" and levels == "all levels" and texts == "both")
    values += generator.normal(0, 1e-6, values.shape)
    found = {each.name: each for each in contrasts(values, weights())}
    assert len(found) == 5 + (2 * 1 + 2 * 2 + 1 * 2) + 2 * 1 * 2 + 2
    levels = "(all levels − deepest level)"
    expected = {
        "all levels − deepest level": 3.0 + 6 / 9,  # 2, 3 in a third of the cells, and 6 in one of nine
        "pooled − channels": 1.5,
        "spatial − channels": 1.0,  # 6 in one of six
        "sections − report": 1.0,
        "both − report": 1.0,
        f"(pooled − channels) × {levels}": 3.0,
        f"(spatial − channels) × {levels}": 2.0,
        "(spatial − channels) × (both − report)": 3.0,
        f"{levels} × (both − report)": 2.0,
        f"(spatial − channels) × {levels} × (both − report)": 6.0,
    }
    for name, each in found.items():
        assert each.value == pytest.approx(expected.get(name, 0.0), abs=1e-4), name
        assert each.p < 1e-6 if name in expected else each.p > 1e-3, name


def test_the_error_is_the_residual_within_seeds():
    values = np.random.default_rng(1).normal(size=(18, 4))
    rest = 0.0
    for i in range(18):
        for s in range(4):
            rest += (values[i, s] - values[i].mean() - values[:, s].mean() + values.mean()) ** 2
    variance = rest / (17 * 3)
    each = contrasts(values, weights())[2]
    deep = np.array([levels == "deepest level" for _, levels, _ in NAMES])
    difference = values[~deep].mean() - values[deep].mean()
    error = np.sqrt(variance * 2 / (9 * 4))
    assert each.name == "all levels − deepest level" and each.value == pytest.approx(difference)
    assert each.high - each.value == pytest.approx(stats.t.ppf(0.975, 51) * error)
    assert each.p == pytest.approx(2 * stats.t.sf(abs(difference) / error, 51))


def test_with_channels_an_interaction_is_that_of_their_cells_alone():
    values = np.random.default_rng(2).normal(size=(18, 3))
    mean = {name: each.mean() for name, each in zip(NAMES, values, strict=True)}
    gain = {
        texts: mean["channels", "all levels", texts] - mean["channels", "deepest level", texts]
        for texts in ("report", "sections")
    }
    name = "(all levels − deepest level) × (sections − report), with channels"
    (found,) = [each for each in contrasts(values, weights()) if each.name == name]
    assert found.value == pytest.approx(gain["sections"] - gain["report"])
