"""The published lists of tensors: each is recognised, and the network that is built takes all of it and wants no more."""

import fractions
from pathlib import Path

import pytest
import torch
from peer_files import KEYS, published, published_checkpoint
from tiny_peers import write_biovil, write_chexzero, write_gloria, write_kad, write_medklip

from imitate.errors import UserError
from imitate.models import peers
from imitate.models.peers import build, find_peer, recognise
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


@pytest.mark.parametrize("name", sorted(TEXT))
@pytest.mark.parametrize("end", ["encoder.layer.5.output.dense.bias", "cls_projection_head.dense_to_output.weight"])
def test_so_is_a_tensor_of_the_file_with_the_text_encoder(name, end, monkeypatch):
    text = {f"text/{key}": tensor for key, tensor in published(TEXT[name]).items()}
    (key,) = (key for key in text if key.endswith(end))
    for change in (_renamed, _reshaped):
        monkeypatch.setattr(peers, "_companion", lambda *_, change=change: change(text, key))
        with torch.device("meta"), pytest.raises(UserError, match=key.replace(".", r"\.")) as error:
            build(recognise(published_checkpoint(name)))
        assert "\n" not in str(error.value)


def plain_lists() -> dict[str, dict[str, torch.Tensor]]:
    """Of families without a published list: those of the installed libraries."""
    import timm
    import torchvision

    with torch.device("meta"):
        vit = timm.create_model("vit_small_patch16_224", num_classes=0).state_dict()
        made = {name: getattr(torchvision.models, name)().state_dict() for name in ("resnet18", "resnet50")}
        made["densenet121"] = torchvision.models.densenet121().state_dict()
        decoder = {f"decoder_{part}.weight": torch.empty(8, 8) for part in ("pred", "embed")}
    return {**made, "vit": vit, "mae": {**vit, **decoder}}


@pytest.mark.parametrize(
    ("name", "middle"),
    [
        ("resnet18", "layer3.1.bn1.running_var"),
        ("resnet50", "layer3.1.conv2.weight"),
        ("densenet121", "features.denseblock2.denselayer3.norm1.weight"),
        ("vit", "blocks.5.attn.qkv.bias"),
        ("mae", "blocks.5.attn.qkv.bias"),
    ],
)
def test_families_without_a_list_take_what_a_library_writes_and_refuse_what_is_damaged(name, middle):
    tensors = plain_lists()[name]
    found = recognise(Checkpoint(Path("x"), {"": tensors}))
    assert found.family.name == ("mae" if name == "mae" else "plain")
    with torch.device("meta"):
        build(found)
    for change in (_renamed, _reshaped):
        with torch.device("meta"), pytest.raises(UserError, match=middle.replace(".", r"\.")) as error:
            build(recognise(Checkpoint(Path("x"), {"": change(tensors, middle)})))
        assert "\n" not in str(error.value)


WRITERS = [write_chexzero, write_gloria, write_biovil, write_medklip, write_kad]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_a_pickle_that_refers_to_more_is_refused_by_that_name(write, tmp_path):
    file = write(tmp_path)
    for path in [file] if file.is_file() else sorted(file.glob("biovil*")):
        whole = torch.load(path)
        torch.save({**whole, "more": fractions.Fraction}, path)
        with pytest.raises(UserError, match=r"refers to fractions\.Fraction: imitate import") as error:
            find_peer(path)
        assert "\n" not in str(error.value)
        with pytest.raises(
            UserError, match=r"refers to fractions\.Fraction, which no published checkpoint needs"
        ) as error:
            find_peer(path, stubs=True)
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
