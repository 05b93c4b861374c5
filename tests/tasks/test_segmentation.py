import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from imitate.config import ImitateConfig
from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.encoder import Encoder
from imitate.models.image import ImageEncoder
from imitate.statistics.surfaces import compared
from imitate.tasks import segmentation
from imitate.tasks.base import Budget, Predictions
from imitate.tasks.dense import WholeImages, whole_images
from imitate.tasks.fitting import parts
from imitate.tasks.segmentation import Segmentation

SIZE = 64
TASK = Segmentation(epochs=8, batch_size=8, learning_rate=2e-2, width=32)


@pytest.fixture(scope="module")
def data() -> Corpus:
    """Bright squares on noise; every third image has none."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 60, (72, SIZE, SIZE), dtype=np.uint8)
    masks = np.zeros_like(images)
    for i in np.flatnonzero(np.arange(72) % 3):
        x, y, side = *generator.integers(0, SIZE - 24, 2), generator.integers(12, 24)
        images[i, y : y + side, x : x + side] += 150
        masks[i, y : y + side, x : x + side] = 1
    split = np.repeat(["train", "val", "test"], [40, 16, 16])
    table = pd.DataFrame({"image_id": [f"i{i}" for i in range(72)], "patient": [f"p{i}" for i in range(72)]})
    return Corpus(Path("memory"), {"size": SIZE, "source": "squares"}, table.assign(split=split), images, masks)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    config = ImitateConfig(backbone="resnet10t", prepared_size=SIZE, image_size=SIZE)
    return Encoder("tiny", ImageEncoder("resnet10t").eval(), config)


def test_it_learns_and_leaves_the_encoder_bit_identical(encoder: Encoder, data: Corpus) -> None:
    before = copy.deepcopy(encoder.image.state_dict())
    predictions = TASK.predict(encoder, data, Budget())
    measured = TASK.measure(predictions)
    assert measured["dice_positives"] > 0.8
    assert measured["dice_micro"] > 0.8
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.image.state_dict().items())
    assert predictions["image_id"].tolist() == [f"i{i}" for i in range(56, 72)]
    masks = np.unpackbits(predictions["masks"], axis=-1, count=SIZE * SIZE).astype(bool)
    truth = data.masks[56:].reshape(16, -1) > 0
    np.testing.assert_array_equal(masks.sum(axis=1), predictions["predicted"])
    np.testing.assert_array_equal(truth.sum(axis=1), predictions["actual"])
    np.testing.assert_array_equal((masks & truth).sum(axis=1), predictions["intersection"])
    outlines = [
        compared(*(each.reshape(SIZE, SIZE) for each in pair), tolerance=TASK.tolerance)
        for pair in zip(masks, truth, strict=True)
    ]
    np.testing.assert_allclose(np.transpose(outlines), [predictions[name] for name in ("hd95", "surface_dice")])
    assert measured["hd95"] == pytest.approx(np.nanmean(predictions["hd95"])) and measured["hd95"] < 8
    assert 0.3 < measured["surface_dice"] == pytest.approx(np.nanmean(predictions["surface_dice"]))
    chance = TASK.chance(predictions)
    assert chance["hd95"] == pytest.approx(SIZE * np.sqrt(2)) and chance["surface_dice"] == 0
    assert (measured["iou"] > chance["iou"]) and chance["iou_positives"] == 0


@pytest.mark.parametrize("mode", ["clean", "paper"])
def test_frozen_moves_nothing_in_clean_and_batchnorm_statistics_alone_in_paper(
    mode: str, encoder: Encoder, data: Corpus
) -> None:
    task, budget = Segmentation(epochs=1, batch_size=8, width=32), Budget(mode=mode)
    after = task.train(encoder, data, budget, parts(data, budget)).pyramid.encoder.state_dict()
    moved = {name for name, tensor in encoder.image.state_dict().items() if not torch.equal(tensor, after[name])}
    statistics = {name for name in after if "running" in name or "num_batches" in name}
    assert moved == (set() if mode == "clean" else statistics)


def test_paper_leaves_the_tail_of_the_validation_images_out(
    encoder: Encoder, data: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []
    read = WholeImages.images
    monkeypatch.setattr(WholeImages, "images", lambda view, rows: seen.append(rows) or read(view, rows))
    monkeypatch.setattr(segmentation, "fit", lambda network, *, validate, **rest: validate())
    for mode, count in (("clean", 16), ("paper", 12)):
        seen.clear()
        budget = Budget(mode=mode)
        Segmentation(batch_size=6, width=32).train(encoder, data, budget, parts(data, budget))
        assert np.concatenate(seen).tolist() == list(range(40, 40 + count))


def test_the_seed_decides(encoder: Encoder, data: Corpus) -> None:
    task = Segmentation(epochs=1, batch_size=8, width=32)
    first, again, other = (task.predict(encoder, data, Budget(seed=seed))["masks"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def predictions(both: list[int], predicted: list[int], actual: list[int], *, paper: bool = False) -> Predictions:
    counts = {"intersection": both, "predicted": predicted, "actual": actual, "paper": [paper] * len(both)}
    return {name: np.array(values) for name, values in counts.items()}


def test_metrics_in_closed_form() -> None:
    #                  empty, false alarm, missed, half, perfect
    table = predictions([0, 0, 0, 4, 9], [0, 1, 0, 8, 9], [0, 0, 5, 8, 9])
    measured = Segmentation(batch_size=3).measure(table)
    assert measured == pytest.approx(
        {
            "dice": (1 + 0 + 0 + 0.5 + 1) / 5,
            "dice_positives": 1.5 / 3,
            "dice_micro": 2 * 13 / (18 + 22),
            "false_positive_rate": 0.5,
            "dice_batched": (1 / 3 + 0.75) / 2,
            "iou": (1 + 0 + 0 + 4 / 12 + 1) / 5,
            "iou_positives": (0 + 4 / 12 + 1) / 3,
        }
    )
    assert next(iter(measured)) == "dice"
    assert Segmentation(batch_size=3).measure(table, np.array([4, 4, 1]))["dice"] == pytest.approx(2 / 3)


def test_paper_puts_the_mean_of_batch_means_first() -> None:
    measured = Segmentation(batch_size=2).measure(predictions([0, 0, 9], [0, 3, 9], [0, 0, 9], paper=True))
    assert next(iter(measured)) == "dice_batched"
    assert measured["dice_batched"] == pytest.approx((0.5 + 1) / 2)
    assert measured["dice"] == pytest.approx(2 / 3)


def test_constant_predictors() -> None:
    actual, area = [0, 0, 0, 6], 100
    task = Segmentation()
    full = task.measure(predictions(actual, [area] * 4, actual))
    assert full["dice"] == pytest.approx(2 * 6 / 106 / 4)
    assert full["false_positive_rate"] == 1
    perfect = task.measure(predictions(actual, actual, actual))
    assert perfect["dice"] == perfect["dice_micro"] == perfect["dice_positives"] == 1
    assert perfect["false_positive_rate"] == 0
    nothing = task.measure(predictions([0] * 4, [0] * 4, actual))
    assert nothing["dice"] == 0.75
    assert nothing["dice_positives"] == nothing["dice_micro"] == 0
    assert task.chance(predictions(actual, actual, actual)) == nothing
    assert "dice_positives" not in task.chance(predictions([0], [0], [0]))


@pytest.mark.parametrize("paper", [False, True])
def test_many_samples_at_once_are_each_measured_as_rows(paper: bool) -> None:
    table = predictions([0, 0, 0, 4, 9], [0, 3, 0, 8, 9], [0, 0, 5, 8, 9], paper=paper)
    task, counts = Segmentation(batch_size=2), np.array([[1, 1, 1, 1, 1], [0, 3, 0, 1, 1], [2, 3, 0, 0, 0]])
    measured = task.resample(table, counts)
    for i, drawn in enumerate(counts):
        alone = task.measure(table, np.repeat(np.arange(5), drawn))
        assert list(alone) == list(measured)
        assert {name: each[i] for name, each in measured.items()} == pytest.approx(alone, nan_ok=True)
    assert measured["dice_batched"][1] == pytest.approx((0 + 0.25 + 1) / 3)


def test_undefined_is_nan() -> None:
    measured = Segmentation().measure(predictions([0], [3], [0]))
    assert np.isnan(measured["dice_positives"])
    assert measured["dice"] == measured["dice_micro"] == 0
    assert np.isnan(Segmentation().measure(predictions([3], [3], [3]))["false_positive_rate"])


def test_balanced_it_trains_on_as_many_empty_images_as_others(data: Corpus) -> None:
    positive = data.masks.any(axis=(1, 2))
    task = Segmentation(balanced=True)
    rows = np.concatenate([np.flatnonzero(positive)[:10], np.flatnonzero(~positive)])
    chosen = task._training(data, rows, Budget())
    assert set(np.flatnonzero(positive)[:10]) <= set(chosen.tolist())
    assert (~positive[chosen]).sum() == 10
    assert set(chosen.tolist()) != set(task._training(data, rows, Budget(seed=1)).tolist())
    np.testing.assert_array_equal(Segmentation()._training(data, rows, Budget()), rows)


def test_augmentation_moves_image_and_mask_together_by_at_most_what_is_set() -> None:
    square = torch.zeros(200, 40, 40)
    square[:, 10:30, 10:30] = 1
    gray, masks = Segmentation()._scale_and_rotate(square, square.clone(), torch.Generator().manual_seed(0))
    torch.testing.assert_close(gray, masks)
    areas = masks.sum(dim=(1, 2)) / 400
    same = (masks - square).abs().amax(dim=(1, 2)) < 1e-3
    assert 70 < same.sum() < 130  # of 200, with probability one half
    assert 0.79 < areas.min() < 0.9
    assert 1.1 < areas.max() < 1.22
    turned, _ = Segmentation(augment=1, scale=0)._scale_and_rotate(square, square, torch.Generator().manual_seed(0))
    torch.testing.assert_close(turned.sum(dim=(1, 2)), torch.full((200,), 400.0), rtol=0.01, atol=0)
    assert (turned - square).abs().amax(dim=(1, 2)).max() > 0.5
    bar = torch.zeros(400, 41, 41)
    bar[:, 20] = 1
    whole, _ = Segmentation(augment=1, scale=0, rotation=10)._scale_and_rotate(
        bar, bar, torch.Generator().manual_seed(0)
    )
    rise = 15 * np.tan(np.radians(10))  # between these columns, at most
    left, right = ((whole[..., column] * torch.arange(41.0)).sum(1) / whole[..., column].sum(1) for column in (5, 20))
    assert rise * 0.9 < (left - right).max() < rise * 1.1 and -rise * 1.1 < (left - right).min() < -rise * 0.9


def test_masks_are_counted_in_their_own_pixels_whatever_the_input(encoder: Encoder, data: Corpus) -> None:
    """A sliver that a smaller input loses remains a target, and predictions are laid over it."""
    masks = data.masks.copy()
    masks[56:] = 0
    masks[56:60, 7, 3] = 1
    thin = Corpus(data.root, data.meta, data.table, data.images, masks)
    size = SIZE // 2
    view = whole_images(encoder, thin, Budget(), Segmentation(image_size=size))
    assert not (view.masks(np.arange(56, 72)) > 0.5).any()
    found = Segmentation(epochs=1, batch_size=8, width=32, image_size=size).predict(encoder, thin, Budget())
    assert found["actual"].tolist() == [1] * 4 + [0] * 12
    unpacked = np.unpackbits(found["masks"], axis=-1, count=SIZE * SIZE)
    np.testing.assert_array_equal(unpacked.sum(1), found["predicted"])
    np.testing.assert_array_equal((unpacked * masks[56:].reshape(16, -1)).sum(1), found["intersection"])
    positives = ("dice_positives", "dice_micro", "dice_classes", "iou_positives", "hd95", "surface_dice")
    assert Segmentation().support(found) == {**dict.fromkeys(positives, (4,)), "false_positive_rate": (12,)}


def test_mistakes_are_reported(encoder: Encoder, data: Corpus) -> None:
    unmasked = Corpus(data.root, data.meta, data.table, data.images, None)
    with pytest.raises(UserError, match="has no masks: prepare a source"):
        Segmentation().predict(encoder, unmasked, Budget())
    empty = Corpus(data.root, data.meta, data.table, data.images, np.zeros_like(data.masks))
    with pytest.raises(UserError, match="none of the 40 training images has a mask"):
        Segmentation().predict(encoder, empty, Budget())


def test_dice_of_classes_is_the_mean_of_that_of_the_target_and_of_the_background() -> None:
    """By hand, over all pixels together."""
    generator = np.random.default_rng(3)
    predicted, actual = generator.random((2, 5, 49)) < np.array([0.3, 0.6])[:, None, None]
    made = {name: each.sum(1) for name, each in
            (("intersection", predicted & actual), ("predicted", predicted), ("actual", actual))}  # fmt: skip
    made |= {"masks": np.packbits(predicted, axis=-1), "paper": np.zeros(5, bool)}

    def dice(a: np.ndarray, b: np.ndarray) -> float:
        return 2 * (a & b).sum() / (a.sum() + b.sum())

    rows = np.array([0, 0, 3, 4])
    found = TASK.measure(made, rows)["dice_classes"]
    assert found == pytest.approx((dice(predicted[rows], actual[rows]) + dice(~predicted[rows], ~actual[rows])) / 2)
    none = made | {"intersection": np.zeros(5, int), "predicted": np.zeros(5, int)}
    assert TASK.chance(made)["dice_classes"] == pytest.approx(TASK.measure(none)["dice_classes"])


def test_a_protocol_with_another_decoder_loss_and_metric(
    encoder: Encoder, data: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(segmentation, "fit", lambda model, **rest: given.update(rest, model=model))
    options = {"decoder": "upernet", "loss": "cross-entropy", "monitor": "dice", "augment": 0, "flip": 1, "width": 16}
    task = Segmentation(batch_size=8, **options)
    rows = parts(data, Budget())
    network = task.train(encoder, data, Budget(), rows).train()
    view, piece = whole_images(encoder, data, Budget(), task), rows.train[:8]
    state = copy.deepcopy(network.state_dict())
    found = given["step"](piece, torch.Generator().manual_seed(0))
    network.load_state_dict(state)
    flipped = view.images(piece).flip(3)
    main, beside = network.heads(flipped)
    target = view.masks(piece).flip(2)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    expected = entropy(main, target) + 0.4 * entropy(beside, target)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    network.eval()
    value, tie = given["validate"]()
    called = torch.cat([network(view.images(each)) for each in np.split(rows.validation, 2)])
    truth = view.masks(rows.validation)
    assert tie == pytest.approx(float(entropy(called, truth)), rel=1e-5)
    both = [(side(called > 0), side(truth > 0.5)) for side in (lambda mask: mask, lambda mask: ~mask)]
    assert -value == pytest.approx(np.mean([2 * float((a & b).sum()) / float(a.sum() + b.sum()) for a, b in both]))
