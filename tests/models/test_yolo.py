import math

import pytest
import torch

from imitate.models.image import ImageEncoder
from imitate.models.pyramid import Pyramid
from imitate.models.yolo import YOLO, anchors, decode


@pytest.mark.parametrize(
    ("name", "options", "size", "grids"),
    [
        ("resnet10t", {}, 64, [2, 4, 8]),
        ("resnet10t", {}, 72, [3, 5, 9]),  # a neck's nearest neighbour is then not exactly twice the size
        ("vit_tiny_patch16_224", {"img_size": 64}, 64, [2, 4, 8]),
    ],
)
def test_three_scales_from_coarse_to_fine(name: str, options: dict[str, int], size: int, grids: list[int]) -> None:
    network = YOLO(Pyramid(ImageEncoder(name, options=options)), width=16).eval()
    raw = network(torch.randn(2, 3, size, size))
    assert [tuple(maps.shape) for maps in raw] == [(2, 3, 6, grid, grid) for grid in grids]
    boxes, scores = decode(raw, size)
    assert boxes.shape == (2, 3 * sum(grid**2 for grid in grids), 4)
    assert scores.shape == boxes.shape[:2]


def test_published_widths_and_anchors() -> None:
    network = YOLO(Pyramid(ImageEncoder("resnet10t")))
    assert [out[0][0].out_channels for out in network.outputs] == [1024, 512, 256]
    assert anchors(224)[0, 2, 0].item() == pytest.approx(373 * 224 / 416)


def test_a_coarser_scale_informs_the_next_finer_one() -> None:
    network = YOLO(Pyramid(ImageEncoder("resnet10t")), width=16).train()
    images = torch.randn(2, 3, 64, 64)
    before = network(images)
    for parameter in network.laterals[0].parameters():
        parameter.data.zero_()
    after = network(images)
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1])
    assert not torch.allclose(before[2], after[2])


def test_decode_in_closed_form() -> None:
    raw = [torch.full((1, 3, 6, grid, grid), -20.0) for grid in (7, 14, 28)]
    # middle scale (stride 16), second anchor (62, 45), row 3, column 5: a quarter into the cell, twice as wide
    raw[1][0, 1, :, 3, 5] = torch.tensor([math.log(1 / 3), 0.0, math.log(2), 0.0, 4.0, -9.0])
    boxes, scores = decode(raw, 224)
    best = int(scores[0].argmax())
    width, height = 2 * 62 * 224 / 416, 45 * 224 / 416
    x, y = 5.25 * 16, 3.5 * 16
    expected = torch.tensor([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    torch.testing.assert_close(boxes[0, best], expected)
    assert scores[0, best].item() == pytest.approx(1 / (1 + math.exp(-4)))
    assert best == 3 * 49 + 1 * 196 + 3 * 14 + 5


def test_a_wild_network_still_gives_finite_boxes() -> None:
    boxes, _ = decode([torch.full((1, 3, 6, grid, grid), 1e4) for grid in (7, 14, 28)], 224)
    assert boxes.isfinite().all()
