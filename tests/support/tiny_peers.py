"""Small checkpoints of published encoders, as files with their vocabulary."""

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


def write_gloria(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    network = tiny_resnet()
    del network.fc
    state = under("gloria.img_encoder.model.", network)
    state |= under("gloria.img_encoder.global_embedder.", randomised(nn.Linear(2048, 128)))
    state |= {"gloria.img_encoder.local_embedder.weight": torch.zeros(128, 1024, 1, 1)}
    state |= under("gloria.text_encoder.model.", tiny_bert())
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

    sizes: dict[str, Any] = {**VISION, "mlp_ratio": 2}
    del sizes["intermediate_size"]
    randomised(Dinov2Model(Dinov2Config(**sizes))).save_pretrained(folder)
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
