"""Effects of a factorial study, against the formulas of an analysis of variance written as loops."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from effects import FACTORS, cells, contrasts

NAMES = list(product(*FACTORS.values()))


def test_cells_are_named_as_the_study_names_its_methods():
    assert cells() == NAMES and len(NAMES) == 18


def test_planted_effects_are_found_and_nothing_else():
    """Levels pay 2 points, and 3 more where they are pooled; seeds shift all cells alike, which is no error."""
    generator = np.random.default_rng(0)
    values = np.tile([0.0, 5.0, -5.0], (18, 1))
    for i, (aggregation, levels, texts) in enumerate(NAMES):
        values[i] += 2 * (levels == "all levels") + 3 * (levels == "all levels" and aggregation == "pooled")
        values[i] += texts == "sections"
    values += generator.normal(0, 1e-6, values.shape)
    found = {each.name: each for each in contrasts(values)}
    assert len(found) == 5 + 2 * 1 + 2 * 2 + 1 * 2
    expected = {
        "all levels − deepest level": 3.0,  # 2, and 3 in a third of the cells
        "pooled − channels": 1.5,
        "sections − report": 1.0,
        "(pooled − channels) × (all levels − deepest level)": 3.0,
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
    each = contrasts(values)[2]
    deep = np.array([levels == "deepest level" for _, levels, _ in NAMES])
    difference = values[~deep].mean() - values[deep].mean()
    error = np.sqrt(variance * 2 / (9 * 4))
    assert each.name == "all levels − deepest level" and each.value == pytest.approx(difference)
    assert each.high - each.value == pytest.approx(stats.t.ppf(0.975, 51) * error)
    assert each.p == pytest.approx(2 * stats.t.sf(abs(difference) / error, 51))
