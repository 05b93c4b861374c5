"""CheXzero beside open_clip's CLIP of the same weights and open_clip's own tokenizer."""

import open_clip
import pytest
import torch
from peer_files import TEXTS, close, images, randomised, write_clip_merges
from torch.nn import functional as F

from imitate.errors import UserError
from imitate.models.peers import load_peer


@pytest.fixture(scope="module")
def clip():
    sees = open_clip.CLIPVisionCfg(layers=4, width=128, head_width=64, patch_size=8, image_size=32)
    reads = open_clip.CLIPTextCfg(width=128, heads=2, layers=2)
    return randomised(open_clip.CLIP(32, sees, reads, quick_gelu=True))


@torch.no_grad()
def test_both_sides_are_those_of_open_clip(clip, tmp_path):
    torch.save(clip.state_dict(), tmp_path / "best.pt")
    write_clip_merges(tmp_path)
    family, peer = load_peer(tmp_path / "best.pt")
    assert family.name == "chexzero"
    pictures = images(2, 3, 320)
    shrunk = F.interpolate(pictures, (32, 32), mode="bicubic")
    features = peer.image(pictures)
    assert close(peer.embed(features), clip.encode_image(shrunk)) and features.pooled.shape == (2, 128)
    assert [level.shape[1:] for level in features.levels] == [(128, 4, 4)] * 4
    long = " ".join(["effusion"] * 100)
    written = [*TEXTS, "No   PNEUMOTHORAX &amp; no edema; it's 3.5 cm", "naïve", long]
    tokens = open_clip.SimpleTokenizer()(written)
    assert peer.text._padded([peer.text.pieces(text) for text in written])[0].tolist() == tokens.tolist()
    assert peer.text.cut(written) == [text for text in written if long in text]
    assert close(peer.text.encode(written), clip.encode_text(tokens))
    assert peer.temperature == pytest.approx(float(torch.exp(-clip.logit_scale)))


def test_projections_of_unlike_widths_are_refused(clip, tmp_path):
    state = clip.state_dict()
    torch.save({**state, "visual.proj": state["visual.proj"][:, :30].clone()}, tmp_path / "best.pt")
    with pytest.raises(UserError, match="vectors of images have 30 numbers, those of texts 32"):
        load_peer(tmp_path / "best.pt")


@torch.no_grad()
def test_half_precision_is_read_as_the_numbers_that_it_holds(clip, tmp_path):
    torch.save({name: tensor.half() for name, tensor in clip.state_dict().items()}, tmp_path / "best.pt")
    _, peer = load_peer(tmp_path / "best.pt")
    weight = peer.state_dict()["image.network.blocks.0.attn.qkv.weight"]
    assert weight.dtype == torch.float32
    assert torch.equal(weight, clip.state_dict()["visual.transformer.resblocks.0.attn.in_proj_weight"].half().float())
    assert peer.text.tokenizer is None
