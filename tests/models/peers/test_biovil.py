import pytest
import torch
from peer_files import TEXTS, close, images, maps, randomised, tiny_bert, tiny_resnet, tokens, under, write_vocabulary
from torch import nn
from torch.nn import functional as F

from imitate.models.peers import load_peer


def projector(inputs: int) -> nn.Module:
    return randomised(
        nn.Sequential(nn.Conv2d(inputs, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 1))
    )


@pytest.fixture(scope="module")
def text_side():
    head = nn.Sequential(nn.Linear(128, 16), nn.GELU(), nn.LayerNorm(16, eps=1e-12), nn.Linear(16, 16))
    names = ("dense_to_hidden", "activation", "LayerNorm", "dense_to_output")
    head = randomised(head)
    state = under("bert.", tiny_bert(pooler=False))
    for name, layer in zip(names, head, strict=True):
        state |= under(f"cls_projection_head.{name}.", layer)
    return head, {**state, "cls.predictions.bias": torch.zeros(20)}


@torch.no_grad()
def test_the_patches_are_projected_and_then_averaged(tmp_path, text_side):
    network, project = tiny_resnet(), projector(2048)
    torch.save({**under("encoder.encoder.", network), **under("projector.model.", project)}, tmp_path / "image.pt")
    assert load_peer(tmp_path / "image.pt")[1].text is None
    head, state = text_side
    torch.save(state, tmp_path / "pytorch_model.bin")
    write_vocabulary(tmp_path)
    family, peer = load_peer(tmp_path)  # whichever of the two files comes first
    assert family.name == "biovil"
    peer.image.enter.side = 96
    pictures = images(2, 3, 96)
    features = peer.image(pictures)
    last = maps(network, pictures)
    assert close(features.pooled, last.mean((2, 3)))
    assert close(peer.embed(features), project(last).mean((2, 3)))
    assert not close(peer.embed(features), project(last.mean((2, 3), keepdim=True))[..., 0, 0], 1e-3)
    bare = [text.rstrip(".") for text in TEXTS]
    expected = head(tiny_bert(pooler=False)(**tokens(bare, tmp_path)).last_hidden_state[:, 0])
    assert close(peer.text.encode(TEXTS), expected)


@torch.no_grad()
def test_without_an_earlier_image_half_of_the_map_is_constant(tmp_path):
    network, project = tiny_resnet(), projector(32)
    reduce = randomised(nn.Conv2d(2048, 16, 1, bias=False))
    missing = torch.randn(1, 16, 1, 1)
    state = {**under("encoder.encoder.", network), **under("projector.model.", project)}
    state |= {**under("encoder.backbone_to_vit.", reduce), "encoder.missing_previous_emb": missing}
    torch.save({**state, "encoder.vit_pooler.type_embed": torch.zeros(2, 1, 16)}, tmp_path / "image.pt")
    family, peer = load_peer(tmp_path / "image.pt")
    assert family.name == "biovil-t"
    peer.image.enter.side = 96
    pictures = images(2, 3, 96)
    now = reduce(maps(network, pictures))
    whole = torch.cat([now, missing.expand_as(now)], 1)
    features = peer.image(pictures)
    assert close(features.pooled, whole.mean((2, 3))) and peer.image.width == 32
    assert close(F.normalize(peer.embed(features)), F.normalize(project(whole).mean((2, 3))))
