"""Small checkpoints of published encoders, as files with their vocabulary."""

from pathlib import Path

import torch
from peer_files import randomised, tiny_bert, tiny_resnet, under, write_clip_merges, write_vocabulary
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
