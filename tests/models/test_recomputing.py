import copy

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from imitate.models.image import ImageEncoder
from imitate.models.recomputing import untracked

RESNET = ("resnet18", {"channels": (4, 8, 16, 32), "drop_path_rate": 0.3})
VIT = ("vit_tiny_patch16_224", {"img_size": 32, "depth": 4, "embed_dim": 48, "drop_path_rate": 0.3, "reg_tokens": 2})
SWIN = (
    "swin_tiny_patch4_window7_224",
    {"img_size": 64, "embed_dim": 12, "depths": (2, 1, 2, 1), "num_heads": (1,) * 4},
)


def trained(encoder: ImageEncoder, images: torch.Tensor) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients and buffers after a step over two views, and the bytes that were kept for the backward pass."""
    kept = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    torch.manual_seed(3)
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        seen = [encoder.train()(view) for view in (images, images.flip(-1))]
        loss = torch.stack([each.pooled.square().sum() + each.levels[1].sin().sum() for each in seen]).sum()
    loss.backward()
    gradients = {name: each.grad for name, each in encoder.named_parameters() if each.grad is not None}
    return gradients | dict(encoder.named_buffers()), kept


@pytest.mark.parametrize(
    ("name", "options"), [RESNET, VIT, SWIN], ids=lambda each: each if isinstance(each, str) else ""
)
def test_blocks_that_are_computed_again_have_equal_gradients_and_keep_less(name, options):
    torch.manual_seed(0)
    plain = ImageEncoder(name, options=options)
    again = copy.deepcopy(plain)
    again.recompute_blocks()
    images = torch.randn(4, 3, *(options.get("img_size", 32),) * 2)
    (expected, most), (found, least) = trained(plain, images), trained(again, images)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert least < 0.8 * most  # of so small a ResNet most is in its stem
    assert again.state_dict().keys() == plain.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(again.eval()(images).pooled, plain.eval()(images).pooled)


def test_computing_again_leaves_the_running_statistics_and_their_counter_alone():
    norm = nn.BatchNorm1d(3, momentum=0.25)
    norm(torch.randn(8, 3))
    before = {name: value.clone() for name, value in norm.named_buffers()}
    counter = norm.num_batches_tracked
    with untracked(norm):
        norm(torch.randn(8, 3))
        assert norm.momentum == 0 and norm.num_batches_tracked is not counter
    assert norm.momentum == 0.25 and norm.num_batches_tracked is counter and counter == 1
    assert all(torch.equal(value, before[name]) for name, value in norm.named_buffers())
