"""Families of images alone, and those whose text goes through a decoder, beside torchvision and timm."""

import re

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
from tiny_peers import Decoder, kad_parts, write_medklip
from torch import nn
from torch.nn import functional as F

from imitate.models.peers import find_peer, load_peer
from imitate.models.types import ImageFeatures


def densenet(channels: int) -> nn.Module:
    from torchvision.models import DenseNet

    network = DenseNet(growth_rate=8, block_config=(2, 2, 2, 2), num_init_features=16, num_classes=18)
    network.features.conv0 = nn.Conv2d(channels, 16, 7, 2, 3, bias=False)
    return randomised(network)


@torch.no_grad()
def test_xrv(tmp_path):
    network = densenet(1)
    torch.save({**network.state_dict(), "op_threshs": torch.zeros(18)}, tmp_path / "densenet.pt")
    family, peer = load_peer(tmp_path / "densenet.pt")
    assert family.name == "xrv-densenet" and peer.preprocessing.range == (-1024, 1024)
    pictures = images(1, 1, 224) * 500
    assert close(peer.image(pictures).pooled, F.relu(network.features(pictures)).mean((2, 3)))
    resnet = tiny_resnet(1)
    resnet.fc = nn.Linear(2048, 18)
    torch.save(resnet.state_dict(), tmp_path / "resnet.pt")
    family, peer = load_peer(tmp_path / "resnet.pt")
    assert family.name == "xrv-resnet" and peer.preprocessing.prepared_size == 512
    peer.image.enter.side = 96
    pictures = images(1, 1, 96) * 500
    assert close(peer.image(pictures).pooled, maps(resnet, pictures).mean((2, 3)))


@torch.no_grad()
def test_medklip_ends_at_the_third_stage(tmp_path):
    network = tiny_resnet()
    file = write_medklip(tmp_path)
    family, peer = load_peer(file)
    assert family.name == "medklip" and peer.image.width == 1024 and peer.text is peer.queries is None
    pictures = images(1, 3, 224)
    features = peer.image(pictures)
    assert close(features.pooled, maps(network, pictures, last=3).mean((2, 3)))
    assert [level.shape[1] for level in peer.image.pyramid(pictures)][-4:] == peer.image.channels
    shapes = [pictures.shape[-1] // level.shape[-1] for level in peer.image.pyramid(pictures)][-4:]
    assert shapes == peer.image.strides


@pytest.mark.parametrize("prefix", ["bert.", ""])
@torch.no_grad()
def test_medklip_asks_its_decoder_in_the_words_of_a_bert_beside_it(tmp_path, prefix):
    file, text = write_medklip(tmp_path), tiny_bert()
    state = torch.load(file)["model"]
    old = ("LayerNorm.gamma", "LayerNorm.beta") if prefix else ("LayerNorm.weight", "LayerNorm.bias")
    named = {name.replace("LayerNorm.weight", old[0]).replace("LayerNorm.bias", old[1]): tensor
             for name, tensor in under(prefix, text).items()}  # fmt: skip
    torch.save({**named, "cls.predictions.bias": torch.zeros(3)}, tmp_path / "pytorch_model.bin")
    write_vocabulary(tmp_path)
    _, peer = load_peer(file)
    maps_ = [torch.randn(2, width, 3, 3, generator=torch.Generator().manual_seed(1)) for width in (8, 8, 8, 1024)]
    features = ImageFeatures(maps_, torch.zeros(2, 1024))
    found = peer.decoder(features, *peer.decoder.read(peer.queries, TEXTS))
    layers = {name: [state[f"module.{name}.{kind}"] for kind in ("weight", "bias")]
              for name in ("disease_embedding_layer", "res_l1", "res_l2", "classifier")}  # fmt: skip
    seen = F.linear(F.linear(maps_[-1].flatten(2).mT, *layers["res_l1"]).relu(), *layers["res_l2"])
    asked = F.linear(text(**tokens(TEXTS, tmp_path, 64)).last_hidden_state[:, 0], *layers["disease_embedding_layer"])
    decoder = Decoder()
    decoder.decoder.load_state_dict(
        {n.removeprefix("module.decoder."): t for n, t in state.items() if ".decoder." in n}
    )
    decoder.decoder_norm, decoder.mlp_head = nn.Identity(), nn.Linear(24, 2)
    decoder.mlp_head.weight.data, decoder.mlp_head.bias.data = layers["classifier"]
    assert close(found, torch.cat([decoder(each[None], asked) for each in seen])) and found.shape == (2, 3)


@pytest.mark.parametrize("last", [4, 3])
@torch.no_grad()
def test_kad(tmp_path, last):
    file, network, places, text, head, decoder = kad_parts(tmp_path, last)
    family, peer = load_peer(file)
    assert family.name == "kad" and peer.preprocessing.image_size == (512 if last == 4 else 224)
    peer.image.enter.side = 96
    pictures = images(1, 3, 96)
    found = maps(network, pictures, last)
    features = peer.image(pictures)
    assert close(features.pooled, found.mean((2, 3)))
    assert close(peer.embed(features), places(found.permute(0, 2, 3, 1)).mean((1, 2)))
    vectors = head(text(**tokens(TEXTS, tmp_path, 256)).pooler_output)
    assert close(peer.text.encode(TEXTS), vectors)
    seen = places(found.permute(0, 2, 3, 1)).flatten(1, 2)
    scores = peer.decoder(features, vectors)
    assert close(scores, decoder(seen, vectors)) and scores.shape == (1, 3)
    assert not close(scores[:, :1], peer.decoder(features, vectors[:1]), 1e-4)  # of classes that are asked together


@torch.no_grad()
def test_masked_autoencoders_give_the_mean_of_the_patches_before_the_last_norm(tmp_path):
    network = tiny_vit()
    decoder = {
        "decoder_pred.weight": torch.zeros(8, 8),
        "decoder_embed.weight": torch.zeros(8, 8),
        "mask_token": torch.zeros(1, 1, 8),
    }
    torch.save(
        {"model": {**network.state_dict(), **decoder, "bert_mlp.weight": torch.zeros(8, 8)}}, tmp_path / "MRM.pth"
    )
    torch.save({"model": {**network.state_dict(), **decoder}}, tmp_path / "mae.pth")
    pictures = images(2, 3, 32)
    tokens_ = network.pos_drop(network._pos_embed(network.patch_embed(pictures)))
    for block in network.blocks:
        tokens_ = block(tokens_)
    for name, mean in (("MRM", 0.4978), ("mae", 0.485)):
        family, peer = load_peer(tmp_path / f"{name}.pth")
        assert family.name == name.lower() and peer.preprocessing.mean[0] == mean
        assert close(peer.image(pictures).pooled, tokens_[:, 1:].mean(1))


class Fusion(nn.Module):
    """CARZero's, written out: one query looks at a memory."""

    def __init__(self):
        super().__init__()
        self.decoder_norm, self.decoder, self.mlp_head = nn.LayerNorm(128), nn.Module(), nn.Module()
        self.decoder.layers = nn.ModuleList(nn.TransformerDecoderLayer(128, 4, 32) for _ in range(2))
        self.decoder.norm, self.logit_scale = nn.LayerNorm(128), nn.Parameter(torch.tensor(2.0))
        for place, (inputs, outputs) in zip("0369", [(128, 16), (16, 12), (12, 8), (8, 1)], strict=True):
            self.mlp_head.add_module(place, nn.Linear(inputs, outputs))

    def forward(self, query, memory):
        query, memory = self.decoder_norm(query), self.decoder_norm(memory)
        for layer in self.decoder.layers:
            query = query + layer.multihead_attn(layer.norm2(query), memory, memory)[0]
            query = query + layer.linear2(layer.linear1(layer.norm3(query)).relu())
        first, second, third, last = self.mlp_head.children()
        return float(last(third(second(first(self.decoder.norm(query)).relu()).relu()).relu()))


@torch.no_grad()
def test_carzero(tmp_path):
    network, text = tiny_vit(), tiny_bert(layers=5)
    fusion = randomised(Fusion())
    state = {**under("CARZero.img_encoder.model.", network), **under("CARZero.text_encoder.model.", text)}
    state |= under("CARZero.fusion_module.", fusion)
    torch.save({"state_dict": state}, tmp_path / "best.ckpt")
    write_vocabulary(tmp_path)
    family, peer = load_peer(tmp_path / "best.ckpt")
    assert family.name == "carzero"
    pictures = images(2, 3, 32)
    assert close(peer.embed(peer.image(pictures)), network(pictures))
    layers = text(**tokens(["the heart is normal no pneumonia"], tmp_path), output_hidden_states=True).hidden_states[
        -4:
    ]
    assert close(F.normalize(peer.text.encode([TEXTS[2]])), F.normalize(torch.stack(layers).sum((0, 2))))
    images_ = network.forward_features(pictures)  # CLS and patches, normalised
    texts = []
    for prompt in ("no effusions", "pneumonia of heart"):
        hidden = sum(text(**tokens([prompt], tmp_path), output_hidden_states=True).hidden_states[-4:])[0]
        if prompt == "no effusions":
            hidden = torch.cat([hidden[:2], hidden[2:4].sum(0, keepdim=True), hidden[4:]])  # two pieces of one word
        texts.append(torch.cat([hidden.sum(0, keepdim=True) / 97, hidden, torch.zeros(97 - len(hidden), 128)]))
    found = peer.decoder(peer.image(pictures), *peer.decoder.read(peer.text, ["No effusions", "Pneumonia of heart."]))
    expected = [[(fusion(t[:1], i) + fusion(i[:1], t)) / 2 for t in texts] for i in images_]
    assert close(found, torch.tensor(expected))


@torch.no_grad()
def test_chexfound_and_dinov2_under_its_own_names(tmp_path):
    from timm.layers import SwiGLUPacked

    gated = tiny_vit(mlp_layer=SwiGLUPacked, act_layer=nn.SiLU, init_values=1.0, reg_tokens=4, no_embed_class=True)
    state = {}
    for name, tensor in gated.state_dict().items():
        name = re.sub(r"^blocks\.(\d)\.", lambda m: f"blocks.{int(m[1]) // 2}.{m[1]}.", name)
        state[
            name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3").replace("reg_token", "register_tokens")
        ] = tensor
    first = torch.randn(1, 1, 128)
    state |= {"pos_embed": torch.cat([first, state["pos_embed"]], 1), "cls_token": state["cls_token"] - first}
    state |= {"mask_token": torch.zeros(1, 128)}
    teacher = {**{f"backbone.{n}": t for n, t in state.items()}, "dino_head.mlp.0.weight": torch.zeros(3, 3)}
    torch.save({"teacher": teacher}, tmp_path / "teacher_checkpoint.pth")
    family, peer = load_peer(tmp_path / "teacher_checkpoint.pth")
    assert family.name == "chexfound" and peer.image.width == 4 * 128
    gray = torch.rand(2, 1, 32, 32).expand(-1, 3, -1, -1) * 0.3 + 0.2
    low, high = gray.amin((2, 3), keepdim=True), gray.amax((2, 3), keepdim=True)
    mean, std = (torch.tensor(each)[:, None, None] for each in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    hidden, expected = gated._pos_embed(gated.patch_embed(((gray - low) / (high - low) - mean) / std)), []
    for block in gated.blocks:
        hidden = block(hidden)
        expected.append(gated.norm(hidden)[:, 0])
    assert close(peer.image(gray).pooled, torch.cat(expected, 1))
    plain = tiny_vit(init_values=1.0)
    torch.save({**plain.state_dict(), "mask_token": torch.zeros(1, 128)}, tmp_path / "backbone_compatible.pth")
    family, peer = load_peer(tmp_path / "backbone_compatible.pth")
    assert family.name == "dinov2-original" and close(peer.image(gray).pooled, plain(gray))


@pytest.mark.parametrize("prefix", ["", "visual.model.", "encoder."])
@torch.no_grad()
def test_plain_networks_are_found_behind_any_prefix(tmp_path, prefix):
    pictures = images(1, 3, 32)
    for made, expected in (
        (tiny_resnet(), lambda network: maps(network, pictures).mean((2, 3))),
        (tiny_vit(), lambda network: network(pictures)),
        (densenet(3), lambda network: F.relu(network.features(pictures)).mean((2, 3))),
    ):
        torch.save({"state_dict": {**under(prefix, made), "vis_proj.weight": torch.zeros(3, 3)}}, tmp_path / "x.pth")
        family, peer = load_peer(tmp_path / "x.pth")
        assert family.name == "plain" and close(peer.image(pictures).pooled, expected(made))
        assert load_peer(tmp_path / "x.pth", plain=False) is None
    torch.save({"a.weight": torch.zeros(3)}, tmp_path / "x.pth")
    assert find_peer(tmp_path / "x.pth") is None
