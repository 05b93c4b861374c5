"""Metrics of maps against hand-worked cases, and the maps that know nothing of an image."""

from typing import Any

import numpy as np
import pytest

from imitate.statistics.metrics import auroc
from imitate.tasks.grounding_scores import METRICS, UsualPlaces, centre, scores, shown

CORNER = np.zeros((4, 4), bool)
CORNER[:2, :2] = True


def of(grid: Any, mask: np.ndarray = CORNER) -> dict[str, float]:
    return {name: float(value[0]) for name, value in scores(np.array([grid], float), mask[None]).items()}


def test_metrics_worked_by_hand() -> None:
    """Inside 1.0, .4, .2, .0; outside one of .6, one of .35 and ten of 0; the peak is inside."""
    found = of([[1.0, 0.4, 0.6, 0.35], [0.2, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert found["pointing"] == 1
    # 1.0 beats 12; .4 beats 11; .2 beats 10; 0 ties with 10
    assert found["pixel-auroc"] == pytest.approx((12 + 11 + 10 + 5) / 48)
    inside, outside = np.array([1, 0.4, 0.2, 0]), np.array([0.6, 0.35, *[0] * 10])
    assert found["cnr"] == pytest.approx((0.4 - 0.95 / 12) / np.sqrt(0.14 + (0.4825 / 12 - (0.95 / 12) ** 2)))
    assert inside.var() == pytest.approx(0.14) and outside.mean() == pytest.approx(0.95 / 12)
    # above .1: 3 of 4 and 2 others; above .2 (not at it): 2 and 2; above .3: 2 and 2; above .4: 1 and 1; .5: 1 and 1
    assert found["miou"] == pytest.approx(np.mean([3 / 6, 2 / 6, 2 / 6, 1 / 5, 1 / 5]))


def test_a_map_turned_round_has_the_opposite_contrast_and_the_same_without_its_sign() -> None:
    grid = np.array([[1.0, 0.4, 0.6, 0.35], [0.2, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    found, turned = of(grid), of(-grid)
    assert turned["cnr"] == -found["cnr"] and turned["cnr-absolute"] == found["cnr-absolute"] == found["cnr"]
    assert turned["pixel-auroc"] == pytest.approx(1 - found["pixel-auroc"])
    assert turned["miou"] == 0  # nothing of it is shown
    assert turned["pointing"] == pytest.approx(1 / 11)  # of the eleven zeros, one is marked


def test_scale_does_not_matter_and_where_the_map_begins_matters_to_what_is_shown_alone() -> None:
    grid = np.random.default_rng(0).normal(size=(4, 4))
    first, scaled, shifted = of(grid), of(7 * grid), of(grid + 5)
    assert scaled == pytest.approx(first)
    assert {name for name in METRICS if shifted[name] != pytest.approx(first[name])} == {"miou"}


def test_equally_high_pixels_share_the_point_and_a_flat_map_is_at_chance() -> None:
    assert of([[1, 0, 1, 0], [0] * 4, [0] * 4, [0, 0, 0, 1]])["pointing"] == pytest.approx(1 / 3)
    flat = {"pointing": 0.25, "pixel-auroc": 0.5, "cnr": 0, "cnr-absolute": 0, "miou": 0.25}
    assert of([[1] * 4] * 4) == flat and of([[0] * 4] * 4) == {**flat, "miou": 0}


def test_a_mark_of_the_whole_image_has_nothing_to_be_distinguished_from() -> None:
    found = of(np.random.default_rng(0).normal(size=(4, 4)), np.ones((4, 4), bool))
    assert found["pointing"] == 1 and np.isnan([found["pixel-auroc"], found["cnr"]]).all()


def test_aurocs_are_those_of_the_other_tasks() -> None:
    random = np.random.default_rng(1)
    maps, masks = random.integers(0, 5, (6, 5, 5)).astype(float), random.random((6, 5, 5)) < 0.4
    expected = [auroc(mask.ravel(), each.ravel())[0] for each, mask in zip(maps, masks, strict=True)]
    np.testing.assert_allclose(scores(maps, masks)["pixel-auroc"], expected)


def test_what_is_shown_is_the_fraction_of_the_highest() -> None:
    np.testing.assert_allclose(shown(np.array([[[-2.0, 1], [4, 0]], [[-1, -2], [0, 0]]]))[0], [[0, 0.25], [1, 0]])
    assert not shown(np.array([[[-2.0, -1], [-4, 0]]])).any()


def test_the_centre_falls_evenly_to_the_corners() -> None:
    found = centre(3)
    side = 1 - 1 / np.sqrt(2)
    np.testing.assert_allclose(found, [[0, side, 0], [side, 1, side], [0, side, 0]])


def test_usual_places_are_those_of_other_patients_of_the_class_where_there_are_any() -> None:
    masks = np.zeros((4, 5, 5), bool)
    masks[0, 0], masks[1, 1], masks[2, 2], masks[3, 3] = True, True, True, True
    usual = UsualPlaces(masks, np.array(["A", "A", "B", "A"]), np.array(["p", "q", "r", "p"]))
    rows = [np.flatnonzero(usual(mark)[:, 0]).tolist() for mark in range(4)]
    assert rows == [[1], [0, 3], [0, 1, 3], [1]]
    assert UsualPlaces(masks[:1], np.array(["A"]), np.array(["p"]))(0) is None
