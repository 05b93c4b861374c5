"""Against a loop over queries, classes and neighbours."""

import numpy as np
import pytest
import torch
from labelled_images import BLOCKS, NAMES, independent, one_of_three, prepared
from sklearn.metrics import roc_auc_score
from torch.nn.functional import normalize

from imitate.errors import UserError
from imitate.tasks import knn
from imitate.tasks.base import Budget
from imitate.tasks.evaluation import planned
from imitate.tasks.knn import NearestClassification, nearest_fractions


def _fractions(queries: np.ndarray, train: np.ndarray, target: np.ndarray, k: int, temperature: float) -> np.ndarray:
    found = np.full((len(queries), target.shape[1]), 0.5)
    for i, c in np.ndindex(*found.shape):
        known = [j for j in range(len(train)) if not np.isnan(target[j, c])]
        cosine = {j: train[j] @ queries[i] / np.linalg.norm(train[j]) / np.linalg.norm(queries[i]) for j in known}
        nearest = sorted(known, key=lambda j: -cosine[j])[:k]
        if nearest:
            weights = [np.exp(cosine[j] / temperature) for j in nearest]
            found[i, c] = np.average([target[j, c] for j in nearest], weights=weights)
    return found


@pytest.mark.parametrize("cells", [2**24, 100])
@pytest.mark.parametrize("temperature", [0.07, 2.0])
def test_equals_a_loop_with_unknown_labels_and_few_images(
    cells: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knn, "CELLS", cells)
    generator = np.random.default_rng(0)
    queries, train = generator.normal(size=(9, 5)), generator.normal(size=(30, 5))
    target = generator.integers(0, 2, (30, 4)).astype(float)
    target[generator.random((30, 4)) < 0.2] = np.nan
    target[3:, 2], target[:, 3] = np.nan, np.nan  # three known labels, and none
    asked, among = (normalize(torch.from_numpy(each), dim=1) for each in (queries, train))
    found = nearest_fractions(asked, among, torch.from_numpy(target), [20, 3, 1], temperature)
    for fractions, k in zip(found.numpy(), (20, 3, 1), strict=True):
        np.testing.assert_allclose(fractions, _fractions(queries, train, target, k, temperature), atol=1e-9)


def test_the_number_of_neighbours_is_chosen_on_validation(caplog: pytest.LogCaptureFixture) -> None:
    """All 120 training images, each with the same weight, say nothing."""
    data, ks = prepared(independent(), contrast=0.7), (120, 10, 1)
    scores = {
        each: NearestClassification(neighbours=each, temperature=1e30).predict(BLOCKS, data, Budget())["score"]
        for each in ((1, 10, 120), *((k,) for k in ks))
    }
    held, train = (data.table["split"].to_numpy() == split for split in ("val", "train"))
    with caplog.at_level("INFO", logger="imitate"):
        NearestClassification(neighbours=ks, temperature=1e30).predict(BLOCKS, data, Budget())
    features = normalize(BLOCKS.features(torch.from_numpy(data.images)).pooled, dim=1)
    fractions = nearest_fractions(features[held], features[train], torch.from_numpy(data.labels[train]), ks, 1e30)
    quality = [roc_auc_score(data.labels[held], each) for each in fractions]
    reported: list[float] = []  # what a sweep compares: the smaller the better
    for some in (ks, (120,)):
        NearestClassification(neighbours=some, temperature=1e30).predict(BLOCKS, data, Budget(validated=reported))
    assert reported == pytest.approx([-max(quality), -0.5])
    said = [record.message for record in caplog.records if "neighbours" in record.message]
    assert said == [f"{k} neighbours: validation AUROC {each:.4f}" for k, each in zip(ks, quality, strict=True)]
    best = ks[int(np.argmax(quality))]
    assert best != 120
    np.testing.assert_array_equal(scores[1, 10, 120], scores[(best,)])


def test_labels_in_the_features_are_read_and_constant_ones_are_at_chance() -> None:
    data, task = prepared(independent()), NearestClassification()
    found = task.predict(BLOCKS, data, Budget())
    assert task.measure(found)["auroc"] > 0.95 and np.isfinite(found["score"]).all()
    assert found["classes"].tolist() == list(NAMES)
    data.images[:] = 7
    constant = task.predict(BLOCKS, data, Budget())
    assert task.measure(constant)["auroc"] == 0.5


def test_exclusive_classes_have_log_probabilities_and_folds_work() -> None:
    data = prepared(one_of_three())
    for folds, images in ((0, 60), (3, 220)):
        task = NearestClassification(folds=folds)
        found = task.predict(BLOCKS, data, Budget())
        np.testing.assert_allclose(np.exp(found["score"].astype(float)).sum(1), 1, rtol=1e-5)
        assert len(found["score"]) == images and task.measure(found)["accuracy"] > 0.9
    assert sorted(set(found["fold"])) == [0, 1, 2]


def test_fractions_and_modes() -> None:
    found = NearestClassification().predict(BLOCKS, prepared(independent()), Budget(fraction=0.1))
    assert len(found["score"]) == 60  # from twelve training images, fewer than most numbers of neighbours
    with pytest.raises(UserError, match="mode paper has no effect on knn-classification"):
        planned("knn-classification", None, mode="paper", fraction=None, settings={})


def test_one_number_of_neighbours_needs_no_validation(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="imitate"):
        NearestClassification(neighbours=(7,)).predict(BLOCKS, prepared(independent()), Budget())
    assert "validation AUROC" not in caplog.text
