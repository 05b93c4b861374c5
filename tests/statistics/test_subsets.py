import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from imitate.errors import UserError
from imitate.statistics import subsets


def _population() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(6)
    patients = np.array([f"p{i // 2:04d}" for i in range(4000)])
    return patients, (generator.random((4000, 3)) < [0.3, 0.1, 0.01]).astype(float)


def test_subsets_are_nested_stratified_and_seeded() -> None:
    patients, labels = _population()
    small, large = (subsets.subset(patients, labels, fraction, seed=0) for fraction in (0.01, 0.1))
    assert (len(small), len(large)) == (20, 200)
    assert set(small) < set(large) <= set(patients)
    assert small != subsets.subset(patients, labels, 0.01, seed=1)
    assert subsets.subset(patients, None, 1.0, seed=0) == sorted(set(patients))
    rare = set(patients[labels[:, 2] > 0])
    assert abs(len(rare & set(large)) - 0.1 * len(rare)) <= 1
    assert subsets.subset(patients, np.where(labels > 0, 1, np.nan), 0.1, seed=0) == large


def test_patients_without_a_finding_are_a_stratum_of_their_own() -> None:
    patients, labels = np.array([f"p{i:02d}" for i in range(40)]), np.zeros((40, 2))
    labels[:10, 0] = labels[4:6, 1] = 1
    found = set(patients[:10])
    for seed in range(8):
        half = set(subsets.subset(patients, labels, 0.5, seed))
        assert len(half) == 20 and len(half & found) in (4, 5, 6)
        assert len(half & {"p04", "p05"}) == 1 and len(half & (found - {"p04", "p05"})) == 4


@pytest.mark.parametrize(("fraction", "message"), [(0.0001, "less than one patient"), (0.0, "not in"), (1.5, "not in")])
def test_a_fraction_without_patients_is_reported(fraction: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        subsets.subset(*_population(), fraction, 0)


def test_a_stored_subset_is_read_again_and_verified(tmp_path: Path) -> None:
    patients, labels = _population()
    path = tmp_path / "subsets" / "1.json"
    chosen = subsets.stored_subset(path, patients, labels, fraction=0.01, seed=0)
    assert subsets.stored_subset(path, patients, None, fraction=0.01, seed=0) == chosen
    assert [file.name for file in path.parent.iterdir()] == ["1.json"]
    for other in ({"fraction": 0.02, "seed": 0}, {"fraction": 0.01, "seed": 1}):
        with pytest.raises(UserError, match="was created with"):
            subsets.stored_subset(path, patients, labels, **other)
    with pytest.raises(UserError, match="drawn_from"):
        subsets.stored_subset(path, patients[:100], labels[:100], fraction=0.01, seed=0)
    stored = json.loads(path.read_text())
    for damaged in (json.dumps({**stored, "patients": stored["patients"][1:]}), "{", "[]"):
        path.write_text(damaged)
        with pytest.raises(UserError, match="damaged"):
            subsets.stored_subset(path, patients, labels, fraction=0.01, seed=0)


def test_a_fraction_of_one_patient_is_that_patient(tmp_path: Path) -> None:
    patients = np.array([f"p{number}" for number in range(10)])
    assert len(subsets.subset(patients, None, 0.1, 0)) == 1
    chosen = subsets.stored_subset(tmp_path / "a" / "b" / "s.json", patients, None, fraction=0.1, seed=0)
    stored = json.loads((tmp_path / "a" / "b" / "s.json").read_text())
    assert subsets.stored_subset(tmp_path / "a" / "b" / "t.json", patients, None, fraction=0.1, seed=0) == chosen
    assert stored["sha256"] == hashlib.sha256(chosen[0].encode()).hexdigest()
    assert stored["drawn_from"] == hashlib.sha256("\n".join(patients).encode()).hexdigest()
    assert stored["patients"] == chosen and stored.keys() == {"fraction", "seed", "drawn_from", "sha256", "patients"}
