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
