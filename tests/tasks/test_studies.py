"""Scores by study against a loop over studies."""

from typing import Any

import numpy as np
import pytest
from labelled_images import BLOCKS, independent, one_of_three, prepared

from imitate.errors import UserError
from imitate.tasks import record, studies
from imitate.tasks.base import Budget, Predictions
from imitate.tasks.classification import LinearClassification


def _predictions(seed: int = 0, n: int = 40) -> tuple[Predictions, np.ndarray]:
    """Studies of one to several images, in any order; two patients share the name of a study."""
    generator = np.random.default_rng(seed)
    patient, study = generator.integers(0, 6, n), generator.integers(0, 3, n)
    target = generator.choice([0, 1, np.nan], (n, 2)).astype(np.float32)
    score = generator.normal(0, 3, (n, 2)).astype(np.float32)
    names = {"image_id": np.array([f"i{i}" for i in range(n)]), "patient": np.array([f"p{i}" for i in patient])}
    return {**names, "target": target, "score": score, "classes": np.array(["a", "b"])}, np.array(
        [f"s{i}" for i in study]
    )


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logit.astype(float)))


@pytest.mark.parametrize(
    ("average", "plain"),
    [
        (studies.mean, lambda scores: scores.mean(0)),
        (studies.mean_of_logs, lambda scores: np.log(np.exp(scores.astype(float)).mean(0))),
        (studies.mean_of_logits, lambda scores: -np.log(1 / _sigmoid(scores).mean(0) - 1)),
    ],
)
def test_every_study_has_the_mean_of_its_images(average: studies.Average, plain: Any) -> None:
    predictions, study = _predictions()
    found = studies.by_study(predictions, study, average)
    keys = list(dict.fromkeys(zip(predictions["patient"], study, strict=True)))
    assert len(found["image_id"]) == len(keys) == len(found["score"])
    for row, (patient, name) in enumerate(keys):
        images = np.flatnonzero((predictions["patient"] == patient) & (study == name))
        assert found["image_id"][row] == f"i{images[0]}" and found["patient"][row] == patient
        np.testing.assert_allclose(found["score"][row], plain(predictions["score"][images]), rtol=1e-5, atol=1e-5)
        for c in range(2):
            labels = predictions["target"][images, c]
            expected = 1 if (labels == 1).any() else np.nan if np.isnan(labels).any() else 0
            np.testing.assert_equal(found["target"][row, c], np.float32(expected))
    assert found["score"].dtype == np.float32 and found["classes"].tolist() == ["a", "b"]


def test_a_study_of_one_image_keeps_its_score_and_certain_ones_stay_finite() -> None:
    scores = np.array([[500.0, -80.0], [500.0, 300.0], [2.0, -2.0]])
    found = studies.mean_of_logits(scores, np.array([0, 2]))
    np.testing.assert_allclose(found, [[500, -np.log(2 / 1 - 1) + 0], [2, -2]], atol=1e-12)


def test_a_task_measures_studies_with_and_without_folds() -> None:
    """Two images of each patient are one study."""
    data = prepared(np.repeat(independent()[::2], 2, axis=0), contrast=2)
    data.table["study"] = "the only one"
    for folds, whole in ((0, 60), (3, 220)):
        image, study = (
            LinearClassification.model_validate({"folds": folds, "unit": unit, "decays": (0.1,)})
            for unit in ("image", "study")
        )
        each, together = (task.predict(BLOCKS, data, Budget()) for task in (image, study))
        assert len(each["score"]) == whole and len(together["score"]) == len(together["target"]) == whole // 2
        order = np.argsort(each["patient"], kind="stable")
        expected = _sigmoid(each["score"][order].reshape(-1, 2, 3)).mean(1)
        rows = np.argsort(together["patient"], kind="stable")
        np.testing.assert_allclose(_sigmoid(together["score"][rows]), expected, atol=1e-6)
        assert study.measure(together)["auroc"] > image.measure(each)["auroc"]
        assert study.support(together)["auroc"] == image.support(each)["auroc"]
    assert record.tested(data, together, split="test", unit="study")["measured"] == "studies"
    assert "measured" not in record.tested(data, each, split="test")


def test_exclusive_classes_stay_exclusive_or_the_study_is_named() -> None:
    data = prepared(np.repeat(one_of_three()[::2], 2, axis=0))
    data.table["study"] = data.table["patient"]
    task = LinearClassification(unit="study", decays=(0.1,))
    found = task.predict(BLOCKS, data, Budget())
    np.testing.assert_allclose(np.exp(found["score"]).sum(1), 1, rtol=1e-5)
    assert {"accuracy", "balanced-accuracy", "mcc"} <= task.measure(found).keys()
    labels = np.stack(data.table["labels"])
    labels[163] = np.roll(labels[162], 1)
    data.table["labels"] = list(labels)
    with pytest.raises(UserError, match="images of study p81 have different classes.*measure by image, unit image"):
        task.predict(BLOCKS, data, Budget())
