import math

import pytest
import torch

from imitate.losses.segmentation import focal, segmentation_loss, soft_dice


def naive_loss(logits: torch.Tensor, target: torch.Tensor) -> float:
    focal_sum = both = probabilities = targets = 0.0
    for logit, truth in zip(logits.flatten().tolist(), target.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        hit = p if truth == 1 else 1 - p
        focal_sum += -((1 - hit) ** 2) * math.log(hit)
        both, probabilities, targets = both + p * truth, probabilities + p, targets + truth
    dice = (2 * both + 1) / (probabilities + targets + 1)
    return 10 * focal_sum / logits.numel() - math.log(dice)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_equals_a_loop_over_pixels(fraction: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn((2, 5, 7), generator=generator, dtype=torch.float64)
    target = (torch.rand((2, 5, 7), generator=generator) < fraction).double()
    assert segmentation_loss(logits, target).item() == pytest.approx(naive_loss(logits, target), rel=1e-12)


def test_gamma_zero_is_cross_entropy_also_with_soft_targets() -> None:
    logits, target = torch.randn(2, 4, 4), torch.rand(2, 4, 4)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
    torch.testing.assert_close(focal(logits, target, gamma=0.0), expected)


def test_dice_is_of_the_batch_and_not_of_each_image() -> None:
    sure = torch.tensor([[[50.0, 50.0]], [[-50.0, -50.0]]])  # all of the first image, none of the second
    target = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]])
    assert soft_dice(sure, target, smooth=0.0).item() == pytest.approx(2 * 1 / (2 + 1))


def test_perfect_is_nil_and_hopeless_is_finite() -> None:
    target = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    logits = (100 * (2 * target - 1)).requires_grad_()
    assert segmentation_loss(logits.detach(), target).item() == pytest.approx(0, abs=1e-6)
    wrong = segmentation_loss(-logits, target)
    wrong.backward()
    assert wrong.isfinite()
    assert logits.grad.isfinite().all()
    assert wrong.item() == pytest.approx(10 * 100 - math.log(1 / 5), rel=1e-6)
