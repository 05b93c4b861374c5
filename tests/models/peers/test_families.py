"""The published lists of tensors: each is recognised, and the network that is built takes all of it and wants no more."""

from pathlib import Path

import pytest
import torch
from peer_files import KEYS, published, published_checkpoint

from imitate.errors import UserError
from imitate.models import peers
from imitate.models.peers import build, recognise
from imitate.models.peers.files import Checkpoint

HF_SIGLIP = {"vision_config": {"num_attention_heads": 16}, "text_config": {"num_attention_heads": 16}}
CASES = {
    "chexzero": ("chexzero", 768, 512),
    "chexzero-half": ("chexzero", 768, 512),
    "hf-clip-vit-b32": ("clip", 768, 512),
    "medsiglip-448": ("siglip", 1152, 1152),
    "rad-dino": ("dinov2", 768, None),
    "rad-dino-original": ("dinov2-original", 768, None),
    "biovil-image": ("biovil", 2048, 128),
    "biovil-t-image": ("biovil-t", 512, 128),
    "mgca-resnet50": ("mgca", 2048, 128),
    "mgca-vit": ("mgca", 768, 128),
    "gloria": ("gloria", 2048, 768),
    "biomedclip": ("biomedclip", 768, 512),
    "cxrclip-resnet50": ("cxrclip", 2048, 512),
    "cxrclip-swint": ("cxrclip", 768, 512),
    "medclip-resnet50": ("medclip", 2048, 512),
    "medclip-vit": ("medclip", 768, 512),
    "xrv-densenet121": ("xrv-densenet", 1024, None),
    "xrv-resnet50": ("xrv-resnet", 2048, None),
    "medklip": ("medklip", 1024, None),
    "kad-512": ("kad", 2048, 768),
    "kad-224": ("kad", 1024, 768),
    "mrm": ("mrm", 768, None),
    "ark6-swin-base-224": ("ark", 1376, None),
    "ark-plus-swin-large-768": ("ark", 1376, None),
    "chexfound": ("chexfound", 4096, None),
    "prior": ("prior", 2048, 768),
    "carzero": ("carzero", 768, 768),
}
"""File: family, width of the features and of the joint space."""


TEXT = {"biovil-image": "cxr-bert-specialized", "biovil-t-image": "biovil-t-text"}
"""Files whose text encoder is another file of the same folder."""


def checkpoint(name: str, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    if name in TEXT:
        text = {f"text/{key}": tensor for key, tensor in published(TEXT[name]).items()}
        monkeypatch.setattr(peers, "_companion", lambda *_: text)
    return published_checkpoint(name)


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_tensor_of_a_published_file_is_known(name, monkeypatch):
    family, width, joint = CASES[name]
    found = recognise(checkpoint(name, monkeypatch))
    assert found is not None and found.family.name == family
    with torch.device("meta"):
        peer = build(found)
    assert peer.image.width == width
    assert all(tensor.dtype == torch.float32 for tensor in peer.state_dict().values() if tensor.is_floating_point())
    vectors = {"image vectors", "text vectors"} & set(found.family.gives)
    assert (peer.text is not None) == ("text vectors" in vectors) and bool(joint) == ("image vectors" in vectors)
    if joint:
        wanted = peer.preprocessing
        pictures = torch.empty(1, wanted.channels, wanted.image_size, wanted.image_size, device="meta")
        assert peer.embed(peer.image(pictures)).shape == (1, joint)


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_renamed_tensor_and_another_shape_are_refused_by_name(name, monkeypatch):
    """A sign, and a tensor in the middle."""
    whole = checkpoint(name, monkeypatch)
    found = recognise(whole)
    sign = next(iter(found.family.signs))
    middle = [key for key in found.state.tensors if key.endswith("weight") and not key.startswith("text/")]
    middle = [key for key in middle if found.state.tensors[key].ndim == 1 and not peers.is_unused(found.family, key)]
    for key in (sign, middle[len(middle) // 2]):
        for change in (_renamed, _reshaped):
            inner = key.rpartition("/")[2]
            damaged = {part: change(tensors, inner) for part, tensors in whole.parts.items()}
            with torch.device("meta"), pytest.raises(UserError, match=inner.replace(".", r"\.")) as error:
                build(recognise(Checkpoint(Path("x"), damaged)))
            assert "\n" not in str(error.value)


def _renamed(tensors: dict[str, torch.Tensor], key: str) -> dict[str, torch.Tensor]:
    return {f"{name}x" if name == key else name: tensor for name, tensor in tensors.items()}


def _reshaped(tensors: dict[str, torch.Tensor], key: str) -> dict[str, torch.Tensor]:
    return {
        name: torch.empty(3, *tensor.shape, device="meta") if name == key else tensor
        for name, tensor in tensors.items()
    }


def test_each_list_is_of_use():
    assert {path.stem for path in KEYS.glob("*.txt")} >= set(CASES)
