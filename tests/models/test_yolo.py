import math

import pytest
import torch
from torch import nn

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


def test_the_anchors_are_those_of_coco() -> None:
    coarse = [[116, 90], [156, 198], [373, 326]]
    middle, fine = [[30, 61], [62, 45], [59, 119]], [[10, 13], [16, 30], [33, 23]]
    assert anchors(416).tolist() == [coarse, middle, fine]


def test_a_head_is_yolov3_s() -> None:
    """Five convolutions to a neck, 1x1 and 3x3 in turn, a sixth and a 1x1 to an output, a 1x1 to the next scale."""
    network = YOLO(Pyramid(ImageEncoder("resnet10t")), width=16)
    assert network.pyramid.channels == [64, 128, 256, 512]
    convs = [m for m in network.necks[1].modules() if isinstance(m, nn.Conv2d)]
    shapes = [(m.in_channels, m.out_channels, m.kernel_size[0], m.padding[0]) for m in convs]
    assert shapes == [(256 + 8, 8, 1, 0), (8, 16, 3, 1), (16, 8, 1, 0), (8, 16, 3, 1), (16, 8, 1, 0)]
    assert all(m.bias is None for m in convs)
    last = [m for m in network.outputs[2].modules() if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels, m.kernel_size[0]) for m in last] == [(4, 8, 3), (8, 18, 1)]
    assert last[1].bias is not None
    laterals = [block[0] for block in network.laterals]
    assert [(m.in_channels, m.out_channels, m.kernel_size[0]) for m in laterals] == [(16, 8, 1), (8, 4, 1)]
    assert {m.negative_slope for m in network.modules() if isinstance(m, nn.LeakyReLU)} == {0.1}


def test_a_side_is_at_most_e_to_the_tenth_of_its_anchor() -> None:
    raw = [torch.zeros(1, 3, 6, grid, grid) for grid in (7, 14, 28)]
    raw[0][0, 0, 2, 0, 0] = 12.0
    box = decode(raw, 416)[0][0, 0]
    assert float(box[2] - box[0]) == pytest.approx(116 * math.exp(10), rel=1e-5)
    assert float(box[3] - box[1]) == pytest.approx(90, rel=1e-5)
