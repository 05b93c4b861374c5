import pytest
import torch
from peer_files import (
    TEXTS,
    close,
    images,
    maps,
    randomised,
    tiny_bert,
    tiny_resnet,
    tiny_vit,
    tokens,
    under,
    write_vocabulary,
)
from torch import nn
from torch.nn import functional as F

from imitate.models.peers import load_peer


def head(inputs: int, seed: int) -> nn.Module:
    return randomised(
        nn.Sequential(
            nn.Linear(inputs, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16), nn.BatchNorm1d(16, affine=False)
        ),
        seed,
    )


def write(path, network, width):
    sees, reads = head(width, 1), head(128, 2)
    text = under("text_encoder_q.model.", tiny_bert(pooler=False))
    del text["text_encoder_q.model.embeddings.token_type_embeddings.weight"]
    state = {**under("img_encoder_q.model.", network), **text, **under("img_encoder_q.global_embed.head.", sees)}
    state |= under("text_encoder_q.global_embed.head.", reads)
    state |= {"text_encoder_q.model.encoder.layer.0.crossattention.self.query.weight": torch.zeros(128, 128)}
    torch.save({"state_dict": {**state, "prototype_layer.weight": torch.zeros(5, 16)}, "epoch": 3}, path)
    write_vocabulary(path.parent)
    return sees, reads


@torch.no_grad()
def test_the_resnet_sees_its_images_enlarged_and_the_text_encoder_no_order(tmp_path):
    network = tiny_resnet()
    del network.fc
    sees, reads = write(tmp_path / "resnet_50.ckpt", network, 2048)
    family, peer = load_peer(tmp_path / "resnet_50.ckpt")
    assert family.name == "mgca"
    pictures = images(1, 3, 224)
    enlarged = F.interpolate(pictures, (299, 299), mode="bilinear", align_corners=True)
    features = peer.image(pictures)
    assert close(features.pooled, maps(network, enlarged).mean((2, 3)))
    assert close(peer.embed(features), sees(features.pooled))
    plain = tiny_bert(pooler=False)
    plain.embeddings.token_type_embeddings.weight.zero_()
    cleaned = ["no evidence of pleural effusion", "there is a large left pleural effusion",
               "the heart is normal no pneumonia"]  # fmt: skip
    ids = tokens(cleaned, tmp_path, 112)
    hidden = plain(**ids, position_ids=torch.zeros_like(ids["input_ids"])).last_hidden_state
    assert close(peer.text.encode(TEXTS), reads(hidden[:, 0]))
    forth, back = peer.text.encode(["large left effusion", "effusion left large"])
    assert close(forth, back)


@pytest.mark.parametrize("side", [32])
@torch.no_grad()
def test_the_vit_sees_them_as_they_are(tmp_path, side):
    network = tiny_vit()
    sees, _ = write(tmp_path / "vit_base.ckpt", network, 128)
    _, peer = load_peer(tmp_path / "vit_base.ckpt")
    pictures = images(2, 3, side)
    assert close(peer.image(pictures).pooled, network(pictures))
    assert close(peer.embed(peer.image(pictures)), sees(network(pictures)))
