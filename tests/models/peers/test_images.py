import pytest
import torch
from peer_files import images, tiny_resnet, tiny_vit

from imitate.models.peers.images import Enter, resnet, vit
from imitate.models.peers.state import State
from imitate.models.pyramid import Pyramid


@torch.no_grad()
@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_a_pyramid_has_the_size_that_the_given_images_ask_for(kind):
    """So that masks of these images fit it; the network itself sees its own size."""
    if kind == "resnet":
        image = resnet(State(tiny_resnet().state_dict(), "x"), "", Enter(96)).eval()
    else:
        image = vit(State(tiny_vit().state_dict(), "x"), "").eval()
    pictures = images(1, 3, 64)
    maps = Pyramid(image)(pictures)
    assert [level.shape[-1] for level in maps[-4:]] == [16, 8, 4, 2]
    assert [level.shape[1] for level in maps[-4:]] == image.channels
    own = images(1, 3, image.enter.side)
    assert all(torch.equal(a, b) for a, b in zip(image.pyramid(own)[-4:], image(own).levels, strict=True))


def test_images_of_the_right_size_are_untouched():
    pictures = images(1, 3, 32)
    assert Enter(32)(pictures) is pictures and Enter(24)(pictures).shape[-1] == 24
