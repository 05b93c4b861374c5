"""CXR-CLIP, MedCLIP and Ark beside torchvision, transformers and timm."""

import re

import pytest
import timm
import torch
from peer_files import TEXTS, close, images, maps, randomised, tiny_bert, tiny_resnet, tokens, under, write_vocabulary
from torch import nn

from imitate.models.peers import load_peer

SMALL = {"embed_dim": 16, "depths": (1, 2, 1, 1), "num_heads": (1, 2, 2, 4)}
FIFTH = (("attention.q_proj", "attention.self.query"), ("attention.k_proj", "attention.self.key"),
         ("attention.v_proj", "attention.self.value"), ("attention.o_proj", "attention.output.dense"),
         ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense"),
         ("attention.relative_position_bias.relative_position", "attention.self.relative_position"))  # fmt: skip
"""Names of transformers 5, and those of 4, in which the files are."""


def swin() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """transformers' network, and its tensors under version 4's names."""
    from transformers import SwinConfig, SwinModel

    config = SwinConfig(image_size=224, patch_size=4, window_size=7, **{**SMALL, "depths": list(SMALL["depths"]),
                        "num_heads": list(SMALL["num_heads"])})  # fmt: skip
    model = randomised(SwinModel(config))
    state = {}
    for name, tensor in model.state_dict().items():
        for new, old in FIFTH:
            name = name.replace(new, old)
        state[name] = tensor
    return model, {**state, "encoder.layers.0.blocks.0.attention.self.relative_position_index": torch.zeros(49, 49)}


@pytest.mark.parametrize("convolutional", [True, False])
@torch.no_grad()
def test_cxrclip(tmp_path, convolutional):
    text, reads = tiny_bert(), randomised(nn.Linear(128, 24))
    sees = randomised(nn.Linear(2048 if convolutional else 128, 24))
    if convolutional:
        network = tiny_resnet()
        image = {name: each for name, each in under("image_encoder.resnet.", network).items() if ".fc." not in name}
    else:
        network, state = swin()
        image = {f"image_encoder.image_encoder.{name}": tensor for name, tensor in state.items()}
    state = {**image, **under("text_encoder.text_encoder.", text), "logit_scale": torch.tensor(2.0)}
    state |= {**under("image_projection.projection.", sees), **under("text_projection.projection.", reads)}
    torch.save({"model": state, "config": {"base": {"text_max_length": 256}}, "epoch": 1}, tmp_path / "r50_m.tar")
    write_vocabulary(tmp_path)
    family, peer = load_peer(tmp_path / "r50_m.tar")
    assert family.name == "cxrclip"
    pictures = images(1, 3, 224)
    features = peer.image(pictures)
    if convolutional:
        expected = maps(network, pictures).mean((2, 3))
    else:
        expected = network(pixel_values=pictures).last_hidden_state[:, 0]
    assert close(features.pooled, expected) and close(peer.embed(features), sees(expected))
    given = tokens(TEXTS, tmp_path, 256)
    ends = given["attention_mask"].sum(1) - 1
    hidden = text(**given).last_hidden_state[torch.arange(len(TEXTS)), ends]
    assert close(peer.text.encode(TEXTS), reads(hidden))


@pytest.mark.parametrize("convolutional", [True, False])
@torch.no_grad()
def test_medclip(tmp_path, convolutional):
    text, reads = tiny_bert(layers=4), randomised(nn.Linear(128, 24, bias=False))
    if convolutional:
        network = tiny_resnet()
        network.fc = sees = randomised(nn.Linear(2048, 24, bias=False))
        image = under("vision_model.model.", network)
    else:
        network, state = swin()
        sees = randomised(nn.Linear(128, 24, bias=False))
        image = {f"vision_model.model.{name}": tensor for name, tensor in state.items()}
        image |= under("vision_model.projection_head.", sees)
    state = {**image, **under("text_model.model.", text), **under("text_model.projection_head.", reads)}
    torch.save({**state, "logit_scale": torch.tensor(2.0)}, tmp_path / "pytorch_model.bin")
    write_vocabulary(tmp_path)
    family, peer = load_peer(tmp_path / "pytorch_model.bin")
    assert family.name == "medclip"
    pictures = images(1, 3, 224)
    features = peer.image(pictures)
    expected = maps(network, pictures).mean((2, 3)) if convolutional else network(pixel_values=pictures).pooler_output
    assert close(features.pooled, expected) and close(peer.embed(features), sees(expected))
    for sentence in TEXTS:
        hidden = text(**tokens([sentence], tmp_path, 77), output_hidden_states=True).hidden_states
        mean = torch.stack([hidden[1].mean(1), hidden[2].mean(1), hidden[-1].mean(1)]).mean(0)
        assert close(peer.text.encode([sentence]), reads(mean))
    assert close(peer.text.encode(TEXTS), torch.cat([peer.text.encode([text]) for text in TEXTS]))


@pytest.mark.parametrize("deep", [True, False])
@torch.no_grad()
def test_ark(tmp_path, deep):
    network = randomised(timm.create_model("swin_tiny_patch4_window7_224", num_classes=0, **SMALL))
    projector = nn.Sequential(nn.Linear(128, 24), nn.ReLU(), nn.Linear(24, 24)) if deep else nn.Linear(128, 24)
    randomised(projector)
    state = {re.sub(r"^layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", name): tensor
             for name, tensor in network.state_dict().items()}  # fmt: skip
    state |= {**under("projector.", projector), "head.weight": torch.zeros(9, 128)}
    state |= {
        "omni_heads.0.weight": torch.zeros(14, 24),
        "layers.0.blocks.0.attn.relative_position_index": torch.zeros(49),
    }
    student = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    torch.save(
        {"state_dict": student, "teacher": {f"module.{n}": t for n, t in state.items()}}, tmp_path / "ark.pth.tar"
    )
    family, peer = load_peer(tmp_path / "ark.pth.tar")
    assert family.name == "ark"
    pictures = images(1, 3, 224)
    assert close(peer.image(pictures).pooled, projector(network(pictures))) and peer.image.width == 24
