"""Against naive computations."""

import math

import numpy as np
import pytest

from imitate.statistics import metrics, resampling


def _mean_of(values: np.ndarray) -> resampling.Resample:
    return lambda counts: {"mean": metrics.mean(values, counts)}


def test_patients_not_images_are_the_unit() -> None:
    per_patient = np.random.default_rng(1).normal(size=50)
    images, patients = np.repeat(per_patient, 8), np.repeat(np.arange(50), 8)
    by_patient = resampling.bootstrap([_mean_of(images)], patients, seed=3)["mean"]
    by_image = resampling.bootstrap([_mean_of(images)], np.arange(400), seed=3)["mean"]
    assert by_patient.shape == (1, 1000)
    assert by_patient.std() == pytest.approx(per_patient.std() / math.sqrt(50), rel=0.1)
    assert by_image.std() < 0.5 * by_patient.std()


def test_a_sample_draws_as_many_patients_as_there_are_each_with_all_images() -> None:
    patients, seen = np.array(["b", "a", "b", "c"]), []
    resampling.bootstrap([lambda counts: {"": seen.append(counts) or np.zeros(len(counts))}], patients, resamples=500)
    counts = np.concatenate(seen)
    assert counts.shape == (500, 4) and (counts[:, 0] == counts[:, 2]).all()
    assert (counts[:, 1:].sum(1) == 3).all()
    assert {tuple(row) for row in counts[:, 1:]} == {(a, b, 3 - a - b) for a in range(4) for b in range(4 - a)}
    assert counts.mean(0) == pytest.approx(1, abs=0.12)


def test_all_runs_have_the_same_draws_and_keep_their_own_values() -> None:
    values = np.random.default_rng(2).normal(size=500)
    drawn = resampling.bootstrap([_mean_of(values + shift) for shift in (-1, 0, 1)], np.arange(500))["mean"]
    assert drawn.shape == (3, 1000)
    np.testing.assert_allclose(drawn[0] + 1, drawn[1])
    np.testing.assert_allclose(drawn[2] - 1, drawn[1])
    again = resampling.bootstrap([_mean_of(values)], np.arange(500))["mean"]
    np.testing.assert_array_equal(again[0], drawn[1])  # one seed, one sample of the patients


def test_one_seed_draws_one_sample_whatever_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(30.0)
    whole = resampling.bootstrap([_mean_of(values)], np.arange(30), resamples=50)["mean"]
    monkeypatch.setattr(resampling, "CHUNK", 7 * 30)
    np.testing.assert_array_equal(whole, resampling.bootstrap([_mean_of(values)], np.arange(30), resamples=50)["mean"])
    other = resampling.bootstrap([_mean_of(values)], np.arange(30), resamples=50, seed=1)["mean"]
    assert whole.shape == (1, 50) and not np.array_equal(whole, other)


@pytest.mark.parametrize(("cells", "shapes"), [(5, [1, 1, 1, 1, 1]), (70, [2, 2, 1]), (10**6, [5])])
def test_no_more_cells_are_held_than_a_chunk_has(
    cells: int, shapes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr(resampling, "CHUNK", cells)
    resampling.bootstrap([lambda c: {"": seen.append(c.shape) or np.zeros(len(c))}], np.arange(30), resamples=5)
    assert seen == [(samples, 30) for samples in shapes]


def test_each_stratum_keeps_its_number_of_patients() -> None:
    patients, strata = np.array(["p3", "p1", "p2", "p1", "p4"]), np.array([1, 0, 0, 0, 1])
    seen: list[np.ndarray] = []

    def note(counts: np.ndarray) -> dict[str, np.ndarray]:
        seen.append(counts)
        return {"": counts[:, 0].astype(float)}

    resampling.bootstrap([note], patients, strata=strata, resamples=40)
    counts = seen[0]
    assert (counts[:, [0, 4]].sum(1) == 2).all() and (counts[:, [1, 2]].sum(1) == 2).all()
    assert (counts[:, 1] == counts[:, 3]).all() and {0, 1, 2} == set(counts.ravel())


def test_draws_without_a_metric_are_nan() -> None:
    target = np.array([1.0, *[0.0] * 9])
    drawn = resampling.bootstrap([lambda c: {"auroc": metrics.auroc(target, target, c)}], np.arange(10))["auroc"]
    assert np.isnan(drawn).mean() == pytest.approx(0.9**10, abs=0.05)
