import math
from typing import Any

import numpy as np
import pytest
import torch
from labelled_images import BLOCKS, NAMES, independent, one_of_three, prepared, resnet, same, state
from sklearn.metrics import balanced_accuracy_score, matthews_corrcoef

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.encoder import Encoder
from imitate.tasks.base import HELD, Budget
from imitate.tasks.classification import (
    Classification,
    LinearClassification,
    Logits,
    class_losses,
    labelled,
    loss,
)


def measured(task: Classification, data: Corpus, encoder: Encoder = BLOCKS) -> dict[str, float]:
    return task.measure(task.predict(encoder, data, Budget()))


AUGMENTED = LinearClassification(path="augmented", epochs=12, batch_size=24, learning_rate=0.1)


@pytest.mark.parametrize("task", [LinearClassification(), AUGMENTED])
def test_labels_in_the_features_are_read_perfectly(task: Classification) -> None:
    found = measured(task, prepared(independent()))
    assert list(found)[:4] == ["auroc", "auroc/Edema", "auroc/Mass", "auroc/Hernia"]
    assert {"threshold-balanced-accuracy/Mass", "threshold-mcc"} <= found.keys()
    assert all(value > 0.999 for value in found.values())
    assert "accuracy" not in found


@pytest.mark.parametrize("task", [LinearClassification(), AUGMENTED])
def test_constant_features_are_at_chance(task: Classification) -> None:
    data = prepared(independent())
    data.images[:] = 7
    predictions = task.predict(BLOCKS, data, Budget())
    assert task.measure(predictions)["auroc"] == 0.5
    measured = {name: value for name, value in task.measure(predictions).items() if not name.startswith("f1")}
    assert measured == task.chance(predictions)
    assert task.chance(predictions)["average-precision/Mass"] == pytest.approx(predictions["target"][:, 1].mean())


def test_a_sweep_has_the_validation_loss_of_either_path() -> None:
    """Without noise both are low; of one weight decay far too large it is nearly that of knowing nothing."""
    data, reported = prepared(independent()), list[float]()
    for task in (LinearClassification(), AUGMENTED, LinearClassification(decays=(1e6,))):
        task.predict(BLOCKS, data, Budget(validated=reported))
    assert len(reported) == 3 and 0 <= reported[0] < 0.2 and 0 <= reported[1] < 0.4 and 0.5 < reported[2] < 0.75


def test_predictions_are_of_the_chosen_split() -> None:
    data = prepared(independent())
    found = LinearClassification(split="val").predict(BLOCKS, data, Budget())
    assert found["image_id"].tolist() == [f"i{i}" for i in range(120, 160)]
    assert found["patient"].tolist() == [f"p{i // 2}" for i in range(120, 160)]
    assert found["target"].shape == found["score"].shape == (40, 3)
    assert found["classes"].tolist() == list(NAMES)
    assert {found[key].dtype.kind for key in ("image_id", "patient", "classes")} == {"U"}


@pytest.mark.parametrize("task", [LinearClassification(), AUGMENTED])
def test_the_scores_of_the_validation_images_are_kept(task: Classification) -> None:
    """As a head that is tested on them would score them."""
    data = prepared(independent())
    found = task.predict(BLOCKS, data, Budget())
    assert found[f"{HELD}image_id"].tolist() == [f"i{i}" for i in range(120, 160)]
    assert np.array_equal(found[f"{HELD}target"], data.labels[120:160])
    swapped = prepared(independent())
    order = np.r_[:160, np.arange(120, 160), 200:220]  # the test images show what the validation images show
    swapped.images[:] = data.images[order]
    again = task.predict(BLOCKS, swapped, Budget())
    assert again["score"][:40] == pytest.approx(found[f"{HELD}score"], abs=1e-4)


def test_folds_test_every_image_once_by_probes_that_never_saw_the_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    data, seen = prepared(independent()), []
    inner = LinearClassification.logits

    def noting(task: LinearClassification, encoder: Encoder, problem: Any, budget: Budget) -> Logits:
        patients = [set(data.table["patient"].iloc[rows]) for rows in problem.rows]
        seen.append((problem.rows.test, (patients[0] | patients[1]) & patients[2]))
        return inner(task, encoder, problem, budget)

    monkeypatch.setattr(LinearClassification, "logits", noting)
    task = LinearClassification(folds=4)
    predictions = task.predict(BLOCKS, data, Budget())
    assert sorted(np.concatenate([rows for rows, _ in seen])) == list(range(len(data)))
    assert len(seen) == 4 and not any(shared for _, shared in seen)
    order = [data.table["image_id"].tolist().index(image) for image in predictions["image_id"]]
    np.testing.assert_array_equal(predictions["target"], data.labels[order])
    assert predictions["classes"].tolist() == data.classes and task.measure(predictions)["auroc"] > 0.999


@pytest.mark.parametrize("task", [LinearClassification(), AUGMENTED])
def test_exclusive_classes_have_an_accuracy(task: Classification) -> None:
    data = prepared(one_of_three(), source="covidx")
    predictions = task.predict(BLOCKS, data, Budget())
    np.testing.assert_allclose(np.exp(predictions["score"]).sum(1), 1, rtol=1e-5)
    assert task.measure(predictions)["accuracy"] > 0.98
    assert task.chance(predictions)["accuracy"] == pytest.approx(1 / 3)
    wrong = {**predictions, "score": np.roll(predictions["target"], 1, axis=1)}
    assert [task.measure(wrong)[name] for name in ("accuracy", "balanced-accuracy")] == [0, 0]
    truth, called = predictions["target"].argmax(1), predictions["score"].argmax(1)
    assert task.measure(predictions)["balanced-accuracy"] == pytest.approx(balanced_accuracy_score(truth, called))
    assert task.measure(predictions)["mcc"] == pytest.approx(matthews_corrcoef(truth, called))
    assert task.chance(predictions)["mcc"] == 0
    support = task.support(predictions)
    assert support["mcc"] == support["balanced-accuracy"] == support["auroc"] and "accuracy" not in support


def test_yes_is_a_probability_above_one_half() -> None:
    found = LinearClassification(decays=(0.1,)).predict(BLOCKS, prepared(independent(), contrast=0.7), Budget())
    measured, chance = LinearClassification().measure(found), LinearClassification().chance(found)
    for c, name in enumerate(NAMES):
        called = 1 / (1 + np.exp(-found["score"][:, c])) > 0.5
        target = found["target"][:, c]
        assert measured[f"threshold-mcc/{name}"] == pytest.approx(matthews_corrcoef(target, called)) != 1
        expected = balanced_accuracy_score(target, called)
        assert measured[f"threshold-balanced-accuracy/{name}"] == pytest.approx(expected)
        assert (chance[f"threshold-balanced-accuracy/{name}"], chance[f"threshold-mcc/{name}"]) == (0.5, 0)
    assert "accuracy" not in measured and "mcc" not in measured


def test_unknown_labels_take_no_part() -> None:
    labels = independent()
    masked = labels.copy()
    hidden = np.random.default_rng(3).random(labels.shape) < 0.3
    masked[hidden] = np.nan
    data = prepared(labels)
    data.table["labels"] = list(masked.astype(np.float32))
    found = LinearClassification().predict(BLOCKS, data, Budget())
    rows = np.flatnonzero(~np.isnan(masked[160:]).all(1))
    np.testing.assert_array_equal(found["target"], masked[160:][rows])
    assert found["image_id"].tolist() == [f"i{160 + i}" for i in rows]
    assert LinearClassification().measure(found)["auroc"] > 0.999


def test_a_class_with_one_label_only_leaves_the_macro_average() -> None:
    labels = independent()
    labels[160:, 1] = 0
    found = measured(LinearClassification(), prepared(labels, contrast=2))
    assert math.isnan(found["auroc/Mass"])
    assert found["auroc"] == pytest.approx((found["auroc/Edema"] + found["auroc/Hernia"]) / 2)


def test_a_class_that_training_knows_nothing_of_takes_no_part() -> None:
    labels = independent()
    labels[:160, 2] = np.nan
    found = LinearClassification().predict(BLOCKS, prepared(labels), Budget())
    assert found["classes"].tolist() == list(NAMES[:2])
    assert found["target"].shape == found["score"].shape == (60, 2)


def test_resampled_metrics_are_those_of_the_repeated_rows() -> None:
    task = LinearClassification()
    predictions = task.predict(BLOCKS, prepared(independent(), contrast=0), Budget())
    rows = np.random.default_rng(4).integers(0, 60, 60)
    tested = {key: value for key, value in predictions.items() if not key.startswith(HELD)}
    repeated = {key: value if key == "classes" else value[rows] for key, value in tested.items()}
    assert task.measure(predictions, rows) == pytest.approx(task.measure(repeated))
    assert task.measure(predictions, rows) != task.measure(predictions)


@pytest.mark.parametrize("task", [LinearClassification(), LinearClassification(path="augmented", epochs=2)])
def test_frozen_means_frozen(task: Classification) -> None:
    encoder = resnet()
    before = state(encoder.image)
    task.predict(encoder, prepared(independent()), Budget())
    assert same(before, state(encoder.image))
    assert all(parameter.grad is None for parameter in encoder.image.parameters())


@pytest.mark.parametrize("seed", [0, 1])
def test_one_seed_one_result(seed: int) -> None:
    data = prepared(independent(), contrast=3)
    task = AUGMENTED.model_copy(update={"epochs": 2})
    first, second = (task.predict(BLOCKS, data, Budget(seed=seed))["score"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, task.predict(BLOCKS, data, Budget(seed=seed + 1))["score"])


def test_paper_takes_the_augmented_path_and_leaves_the_validation_tail_out() -> None:
    labels = independent()
    data, other = prepared(labels), prepared(labels)
    other.images[144:160] = prepared(1 - labels).images[144:160]  # the 16 that make no full batch of 24
    task = LinearClassification(epochs=6, batch_size=24, learning_rate=0.3)
    paper, unmoved = (task.predict(BLOCKS, each, Budget(mode="paper"))["score"] for each in (data, other))
    np.testing.assert_array_equal(paper, unmoved)
    augmented = task.model_copy(update={"path": "augmented"})
    clean, moved = (augmented.predict(BLOCKS, each, Budget())["score"] for each in (data, other))
    assert not np.array_equal(clean, moved)


def test_images_are_cropped_or_distorted_whatever_their_source() -> None:
    labels = independent()
    task = AUGMENTED.model_copy(update={"epochs": 1})
    distorting = task.model_copy(update={"augmentation": "distort"})
    plain, other = (
        task.predict(BLOCKS, prepared(labels, source=each), Budget())["score"] for each in ("a", "chexpert")
    )
    np.testing.assert_array_equal(plain, other)
    assert not np.array_equal(plain, distorting.predict(BLOCKS, prepared(labels), Budget())["score"])


def test_a_caution_of_the_source_is_repeated(caplog: pytest.LogCaptureFixture) -> None:
    data = prepared(independent())
    data.meta["traits"] = {"caution": "the origin says it all"}
    LinearClassification().predict(BLOCKS, data, Budget())
    assert caplog.messages[0] == "the origin says it all"


def test_the_weight_decay_is_chosen_on_validation(caplog: pytest.LogCaptureFixture) -> None:
    data = prepared(independent(), contrast=3)
    data.images[120:160] = np.random.default_rng(5).integers(0, 40, (40, 40, 40))
    with caplog.at_level("INFO", logger="imitate"):
        chosen = LinearClassification(decays=(0.01, 10.0)).predict(BLOCKS, data, Budget())["score"]
    strong = LinearClassification(decays=(10.0,)).predict(BLOCKS, data, Budget())["score"]
    np.testing.assert_array_equal(chosen, strong)
    said = [record.message.split(":")[0] for record in caplog.records]
    assert said == [
        "weight decay 10",
        "weight decay 0.01",
        "the best weight decay is the smallest or largest of decays",
    ]
    assert "Edema 10, Mass 10, Hernia 10" in caplog.text


def test_each_class_has_the_weight_decay_of_its_own_validation_loss() -> None:
    data = prepared(independent(2), contrast=3)
    labels = np.stack(data.table["labels"])
    labels[120:160, 1] = 1 - labels[120:160, 1]  # what was learnt of Mass misleads
    data.table["labels"] = list(labels)
    both, weak, strong = (
        LinearClassification(decays=decays).predict(BLOCKS, data, Budget())["score"]
        for decays in ((0.01, 10.0), (0.01,), (10.0,))
    )
    np.testing.assert_allclose(both[:, 0], weak[:, 0], atol=0.02)
    np.testing.assert_array_equal(both[:, 1], strong[:, 1])


def test_the_loss_of_a_class_without_labels_is_that_of_all() -> None:
    logits, target = torch.tensor([[0.0, 5.0], [2.0, -1.0]]), torch.tensor([[1.0, math.nan], [0.0, math.nan]])
    one = (math.log(2) + math.log1p(math.exp(2))) / 2
    assert class_losses(logits, target, False).tolist() == pytest.approx([one, one])
    target[0, 1] = 1
    both = (2 * one + math.log1p(math.exp(-5))) / 3
    assert loss(logits, target, False).item() == pytest.approx(both)
    assert class_losses(logits, target, False).tolist() == pytest.approx([one, math.log1p(math.exp(-5))])
    assert class_losses(logits, torch.eye(2), True).tolist() == [loss(logits, torch.eye(2), True).item()]


def test_with_folds_noise_is_at_chance_and_scores_of_different_probes_are_not_ranked_together() -> None:
    """The bias of a probe goes against its own fold: with more positives among the rest, its scores are higher."""
    data = prepared((np.random.default_rng(2).random((220, 1)) < 0.3).astype(float), contrast=0)
    task = LinearClassification(folds=5, decays=(1e5,))
    found = task.predict(BLOCKS, data, Budget())
    assert sorted(set(found["fold"])) == [0, 1, 2, 3, 4]
    measured = task.measure(found)
    together = task.measure({name: column for name, column in found.items() if name != "fold"})
    assert abs(measured["auroc"] - 0.5) < 0.06 and together["auroc"] < 0.42
    shifted = {**found, "score": found["score"] + 50 * found["fold"][:, None]}
    ranked = {name: value for name, value in measured.items() if not name.startswith(("threshold", "f1"))}
    assert {name: task.measure(shifted)[name] for name in ranked} == pytest.approx(ranked)
    assert task.chance(found)["auroc"] == 0.5


def test_classes_that_some_fold_does_not_know_take_no_part() -> None:
    labels = independent()
    data = prepared(labels)
    patients = data.table["patient"].to_numpy()
    first = np.isin(patients, LinearClassification(folds=3).predict(BLOCKS, data, Budget())["patient"][:5])
    labels[~first, 2] = np.nan  # known of patients of one fold only
    found = LinearClassification(folds=3).predict(BLOCKS, prepared(labels), Budget())
    assert found["classes"].tolist() == list(NAMES[:2]) and found["score"].shape == (len(found["fold"]), 2)


def test_support_is_of_patients() -> None:
    predictions = LinearClassification().predict(BLOCKS, prepared(independent()), Budget())
    found = LinearClassification().support(predictions)
    positive = predictions["target"][:, 1] == 1
    patients = predictions["patient"]
    assert found["average-precision/Mass"] == (len(set(patients[positive])), len(set(patients[~positive])))
    assert found["auroc"] == sum((found[f"auroc/{name}"] for name in NAMES), ())


def test_too_few_images_are_errors_of_the_user() -> None:
    data = prepared(independent())
    with pytest.raises(UserError, match="12 training images make no batch of 48: raise --fraction or lower batch_size"):
        LinearClassification(path="augmented").predict(BLOCKS, data, Budget(fraction=0.1))
    for label in (0, 1):
        one_sided = independent()
        one_sided[:120] = label
        with pytest.raises(UserError, match="no class has both labels among the 120 training images"):
            labelled(prepared(one_sided), Budget(), split="test")
    unknown = independent()
    unknown[120:160] = np.nan
    with pytest.raises(UserError, match="no labelled validation image"):
        labelled(prepared(unknown), Budget(), split="test")


def test_loss_ignores_unknown_labels() -> None:
    logits = torch.tensor([[0.0, 5.0], [2.0, -1.0]])
    target = torch.tensor([[1.0, math.nan], [0.0, math.nan]])
    expected = (math.log(2) + math.log1p(math.exp(2))) / 2
    assert loss(logits, target, False).item() == pytest.approx(expected)
    assert loss(logits, torch.tensor([[1.0, 0.0], [1.0, 0.0]]), True).item() == pytest.approx(
        (math.log1p(math.exp(5)) + math.log1p(math.exp(-3))) / 2
    )
