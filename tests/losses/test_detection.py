import math

import numpy as np
import pytest
import torch

from imitate.losses.detection import assign, detection_loss

ANCHORS = torch.tensor([[2.0, 1.5], [3.0, 4.0], [7.0, 6.0]])


def naive_assign(
    boxes: np.ndarray, anchors: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The published rule, one box and one anchor at a time."""
    shape = (len(boxes), len(anchors), height, width)
    positive, empty, offsets = np.zeros(shape), np.ones(shape), np.zeros((*shape, 4))
    for image, objects in enumerate(boxes):
        for x1, y1, x2, y2 in objects:
            if x2 - x1 <= 0 or y2 - y1 <= 0:
                continue
            w, h, x, y = x2 - x1, y2 - y1, (x1 + x2) / 2, (y1 + y2) / 2
            i, j = min(int(x), width - 1), min(int(y), height - 1)
            ious = []
            for a, (aw, ah) in enumerate(anchors):
                shared = (min(w, aw) + 1) * (min(h, ah) + 1)
                ious.append(shared / ((w + 1) * (h + 1) + (aw + 1) * (ah + 1) - shared))
                if ious[-1] > 0.5:
                    empty[image, a, j, i] = 0
            best = int(np.argmax(ious))
            positive[image, best, j, i] = 1
            offsets[image, best, j, i] = x - i, y - j, math.log(w / anchors[best][0]), math.log(h / anchors[best][1])
    return positive, empty, offsets


def naive_loss(raw: np.ndarray, positive: np.ndarray, empty: np.ndarray, offsets: np.ndarray) -> float:
    """The published terms on masked probabilities; cross-entropy with logarithms no smaller than -100."""

    def sigmoid(values: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-values))

    def entropy(p: np.ndarray, t: np.ndarray) -> float:
        with np.errstate(divide="ignore"):
            return float(-(t * np.maximum(np.log(p), -100) + (1 - t) * np.maximum(np.log(1 - p), -100)).mean())

    x, y, w, h, confidence, label = np.moveaxis(raw, 2, 0)
    tx, ty, tw, th = np.moveaxis(offsets, -1, 0)
    place = entropy(sigmoid(x) * positive, tx * positive) + entropy(sigmoid(y) * positive, ty * positive)
    shape = ((w * positive - tw * positive) ** 2).mean() + ((h * positive - th * positive) ** 2).mean()
    there = entropy(sigmoid(confidence) * positive, positive)
    absent = entropy(sigmoid(confidence) * empty, np.zeros_like(empty))
    return 2.5 * place + 2.5 * shape + there + 0.5 * absent + entropy(sigmoid(label) * positive, positive)


def random_boxes(generator: np.random.Generator, images: int, objects: int, side: float) -> np.ndarray:
    corners = np.sort(generator.uniform(0, side, (images, objects, 2, 2)), axis=2).reshape(images, objects, 4)
    corners[generator.random((images, objects)) < 0.3] = 0  # padding, anywhere
    return corners


@pytest.mark.parametrize("seed", range(5))
def test_assignment_equals_a_loop_over_boxes(seed: int) -> None:
    boxes = random_boxes(np.random.default_rng(seed), 4, 12, 5.0)  # many boxes share a cell
    ours = assign(torch.from_numpy(boxes), ANCHORS.double(), (5, 5))
    positive, empty, offsets = naive_assign(boxes, ANCHORS.double().numpy(), 5, 5)
    np.testing.assert_array_equal(ours.positive.numpy(), positive)
    np.testing.assert_array_equal(ours.empty.numpy(), empty)
    np.testing.assert_allclose(ours.offsets.permute(0, 1, 3, 4, 2).numpy(), offsets, atol=1e-12)


def test_the_last_of_two_boxes_in_a_cell_and_anchor_wins() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 3.0, 4.0], [0.1, 0.1, 3.1, 4.3]]])
    offsets = assign(boxes, ANCHORS, (5, 5)).offsets[0, 1, :, 2, 1]
    torch.testing.assert_close(offsets, torch.tensor([0.6, 0.2, 0.0, math.log(4.2 / 4)]))


def test_a_positive_anchor_of_small_overlap_is_also_held_to_be_empty() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 30.0, 30.0]]])
    target = assign(boxes, ANCHORS, (32, 32))
    assert target.positive.sum() == 1
    assert target.empty[target.positive].all()


def test_a_centre_on_the_far_border_stays_in_the_grid() -> None:
    assert assign(torch.tensor([[[4.0, 4.0, 6.0, 6.0]]]), ANCHORS, (5, 5)).positive[0, :, 4, 4].any()


@pytest.mark.parametrize("seed", range(3))
def test_loss_equals_the_sum_of_naive_losses(seed: int) -> None:
    generator = np.random.default_rng(seed)
    size, grids = 48, (3, 6)
    boxes = random_boxes(generator, 2, 6, size)
    raw = [generator.normal(size=(2, 3, 6, grid, grid)) for grid in grids]
    anchors = np.stack([ANCHORS.double().numpy() * 8, ANCHORS.double().numpy() * 2])
    expected = 0.0
    for maps, sides, grid in zip(raw, anchors, grids, strict=True):
        cells = grid / size
        expected += naive_loss(maps, *naive_assign(boxes * cells, sides * cells, grid, grid))
    ours = detection_loss(
        [torch.from_numpy(maps) for maps in raw],
        torch.from_numpy(boxes),
        anchors=torch.from_numpy(anchors),
        size=size,
    )
    assert ours.item() == pytest.approx(expected, rel=1e-9)


def test_without_boxes_only_objectness_is_trained() -> None:
    raw = [torch.randn(2, 3, 6, grid, grid, requires_grad=True) for grid in (2, 4)]
    detection_loss(raw, torch.zeros(2, 1, 4), anchors=torch.stack([ANCHORS, ANCHORS]), size=64).backward()
    for maps in raw:
        assert maps.grad is not None
        assert (maps.grad[:, :, 4] > 0).all()
        assert not maps.grad[:, :, [0, 1, 2, 3, 5]].any()
