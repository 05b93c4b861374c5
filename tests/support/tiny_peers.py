"""Small checkpoints of published encoders, as files with their vocabulary."""

import re
from pathlib import Path
from typing import Any

import torch
from peer_files import randomised, tiny_bert, tiny_resnet, tiny_vit, under, write_clip_merges, write_vocabulary
from torch import nn


def write_chexzero(folder: Path) -> Path:
    """In OpenAI's layout, with its table of word pieces."""
    import open_clip

    folder.mkdir(parents=True, exist_ok=True)
    sees = open_clip.CLIPVisionCfg(layers=4, width=64, head_width=64, patch_size=8, image_size=32)
    reads = open_clip.CLIPTextCfg(width=64, heads=1, layers=2)
    model = randomised(open_clip.CLIP(32, sees, reads, quick_gelu=True))
    model.logit_scale.data.fill_(4.0)
    torch.save(model.state_dict(), folder / "best_64.pt")
    write_clip_merges(folder)
    return folder / "best_64.pt"


def write_gloria(folder: Path, *, layers: int = 4) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    network = tiny_resnet()
    del network.fc
    state = under("gloria.img_encoder.model.", network)
    state |= under("gloria.img_encoder.global_embedder.", randomised(nn.Linear(2048, 128)))
    state |= under("gloria.img_encoder.local_embedder.", randomised(nn.Conv2d(1024, 128, 1, bias=False)))
    state |= under("gloria.text_encoder.model.", tiny_bert(layers=layers))
    torch.save({"state_dict": state, "epoch": 3}, folder / "chexpert_resnet50.ckpt")
    write_vocabulary(folder)
    return folder / "chexpert_resnet50.ckpt"


def write_biovil(folder: Path) -> Path:
    """Two files, as on the hub."""
    folder.mkdir(parents=True, exist_ok=True)
    layers = nn.Sequential(nn.Conv2d(2048, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 1))
    state = {**under("encoder.encoder.", tiny_resnet()), **under("projector.model.", randomised(layers))}
    torch.save(state, folder / "biovil_image_resnet50_proj_size_128.pt")
    head = nn.ModuleDict(
        {"dense_to_hidden": nn.Linear(128, 16), "LayerNorm": nn.LayerNorm(16), "dense_to_output": nn.Linear(16, 16)}
    )
    text = {**under("bert.", tiny_bert(pooler=False)), **under("cls_projection_head.", randomised(head))}
    torch.save(text, folder / "pytorch_model.bin")
    write_vocabulary(folder)
    return folder


NUMBERED = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


def numbered(network: nn.Module, last: int) -> dict[str, torch.Tensor]:
    """A ResNet that was cut into a numbered sequence, up to a stage."""
    state = {re.sub(r"^(\w+?)\.", lambda m: f"{NUMBERED.get(m[1], m[1])}.", name): tensor
             for name, tensor in network.state_dict().items()}  # fmt: skip
    return {name: tensor for name, tensor in state.items() if name[0].isdigit() and int(name[0]) <= last + 3}


def write_medklip(folder: Path) -> Path:
    """Without the text encoder, as it is distributed."""
    folder.mkdir(parents=True, exist_ok=True)
    rest = nn.ModuleDict({"disease_embedding_layer": nn.Linear(128, 24), "cl_fc": nn.Linear(24, 128)})
    rest.update({"res_l1": nn.Linear(1024, 1024), "res_l2": nn.Linear(1024, 24), "classifier": nn.Linear(24, 2)})
    rest["decoder"] = nn.TransformerDecoder(nn.TransformerDecoderLayer(24, 4, 32), 2, nn.LayerNorm(24))
    state = {f"res_features.{name}": tensor for name, tensor in numbered(tiny_resnet(), 3).items()}
    state |= randomised(rest).state_dict()
    torch.save({"model": {f"module.{name}": each for name, each in state.items()}}, folder / "checkpoint_final.pth")
    return folder / "checkpoint_final.pth"


def write_kad(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return kad_parts(folder)[0]


@torch.no_grad()
def kad_parts(folder: Path, last: int = 4) -> tuple[Path, nn.Module, nn.Sequential, Any, nn.Sequential, "Decoder"]:
    """A file, with what it is made of: the ResNet, the heads of places, the BERT, its head, the decoder."""
    network, text, width = tiny_resnet(), tiny_bert(), 512 * 2 ** (last - 2)
    places = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 24))
    head = nn.Sequential(nn.Linear(128, 128), nn.GELU(), nn.Linear(128, 24))
    randomised(places), randomised(head)
    sees = {**under("resnet.", network), **{f"res_features.{n}": t for n, t in numbered(network, last).items()}}
    sees |= {**under("res_l1.", places[0]), **under("res_l2.", places[2])}
    reads = {**under("bert_model.", text), **under("mlp_embed.", head), "logit_scale": torch.tensor(2.0)}
    decoder = randomised(Decoder())
    whole = {"image_encoder": sees, "text_encoder": reads, "model": decoder.state_dict()}
    torch.save(whole, folder / "best_valid.pt")
    write_vocabulary(folder)
    return folder / "best_valid.pt", network, places, text, head, decoder


class Decoder(nn.Module):
    """KAD's, written out: each layer asks the other classes, then the image, then itself."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder_norm, self.mlp_head = nn.LayerNorm(24), nn.Sequential(nn.Linear(24, 2))
        self.decoder: Any = nn.Module()
        self.decoder.layers = nn.ModuleList(self.layer() for _ in range(2))
        self.decoder.norm = nn.LayerNorm(24)

    def layer(self) -> Any:
        made: Any = nn.Module()
        made.self_attn, made.multihead_attn = (nn.MultiheadAttention(24, 4, batch_first=True) for _ in range(2))
        made.linear1, made.linear2 = nn.Linear(24, 32), nn.Linear(32, 24)
        made.norm1, made.norm2, made.norm3 = (nn.LayerNorm(24) for _ in range(3))
        return made

    def forward(self, seen: Any, classes: Any) -> Any:
        seen, asked = self.decoder_norm(seen), self.decoder_norm(classes)[None]
        for layer in self.decoder.layers:
            own = layer.norm1(asked)
            asked = asked + layer.self_attn(own, own, own)[0]
            asked = asked + layer.multihead_attn(layer.norm2(asked), seen, seen)[0]
            asked = asked + layer.linear2(layer.linear1(layer.norm3(asked)).relu())
        return self.mlp_head(self.decoder.norm(asked)).softmax(-1)[..., 1]


VISION = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
          "image_size": 32, "patch_size": 8}  # fmt: skip
TEXT = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}


def write_clip(folder: Path) -> Path:
    """As transformers writes it."""
    from transformers import CLIPConfig, CLIPModel

    text = {**TEXT, "vocab_size": 49408, "eos_token_id": 2}
    randomised(CLIPModel(CLIPConfig(vision_config=VISION, text_config=text, projection_dim=24))).save_pretrained(folder)
    write_clip_merges(folder)
    return folder


def write_dinov2(folder: Path) -> Path:
    """Of images alone."""
    from transformers import Dinov2Config, Dinov2Model

    sizes: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
    sizes |= {"image_size": 32, "patch_size": 8}
    randomised(Dinov2Model(Dinov2Config(mlp_ratio=2, **sizes))).save_pretrained(folder)
    return folder


def write_mgca(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    heads = []
    for inputs in (128, 128):
        layers = (nn.Linear(inputs, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16))
        heads.append(randomised(nn.Sequential(*layers, nn.BatchNorm1d(16, affine=False))))
    text = under("text_encoder_q.model.", tiny_bert(pooler=False))
    del text["text_encoder_q.model.embeddings.token_type_embeddings.weight"]
    state = {**under("img_encoder_q.model.", tiny_vit()), **text, "prototype_layer.weight": torch.zeros(5, 16)}
    state |= under("img_encoder_q.global_embed.head.", heads[0]) | under("text_encoder_q.global_embed.head.", heads[1])
    state |= {"text_encoder_q.model.encoder.layer.0.crossattention.self.query.weight": torch.zeros(128, 128)}
    torch.save({"state_dict": state, "epoch": 3}, folder / "vit_base.ckpt")
    write_vocabulary(folder)
    return folder / "vit_base.ckpt"


def write_mrm(folder: Path) -> Path:
    """Of images alone; with parts of its decoders, by which it is recognised."""
    folder.mkdir(parents=True, exist_ok=True)
    signs = dict.fromkeys(("bert_mlp.weight", "decoder_pred.weight"), torch.zeros(4, 4))
    torch.save({"model": {**tiny_vit().state_dict(), **signs}}, folder / "MRM.pth")
    return folder / "MRM.pth"


def write_xrv(folder: Path) -> Path:
    """Of images alone."""
    from torchvision.models import DenseNet

    folder.mkdir(parents=True, exist_ok=True)
    network = DenseNet(growth_rate=8, block_config=(2, 2, 2, 2), num_init_features=16, num_classes=18)
    network.features.conv0 = nn.Conv2d(1, 16, 7, 2, 3, bias=False)
    torch.save({**randomised(network).state_dict(), "op_threshs": torch.zeros(18)}, folder / "densenet.pt")
    return folder / "densenet.pt"
