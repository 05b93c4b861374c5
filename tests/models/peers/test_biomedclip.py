"""BiomedCLIP beside open_clip's network of the same layout."""

import open_clip
import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.timm_model import TimmModel
from peer_files import TEXTS, WORDS, close, images, randomised, tokens, write_vocabulary
from torch import nn

from imitate.models.peers import load_peer


class Layout(nn.Module):
    """CustomTextCLIP of a small ViT and a small BERT, without what open_clip would fetch."""

    def __init__(self, folder):
        super().__init__()
        import timm
        from transformers import BertConfig

        self.visual = TimmModel("vit_base_patch16_224", 32, image_size=32, proj="linear", pool="")
        options = {"img_size": 32, "patch_size": 8, "embed_dim": 128, "depth": 4, "num_heads": 2, "num_classes": 0}
        self.visual.trunk = timm.create_model("vit_base_patch16_224", **options)
        self.visual.head.proj = nn.Linear(128, 32, bias=False)
        config = BertConfig(
            vocab_size=len(WORDS), hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=96
        )
        config.save_pretrained(folder)
        self.text = HFTextEncoder(
            str(folder), 32, pooler_type="cls_last_hidden_state_pooler", proj_type="mlp", pretrained=False
        )
        self.logit_scale = nn.Parameter(torch.tensor(4.4454))


@torch.no_grad()
def test_both_sides_are_those_of_open_clip(tmp_path):
    assert open_clip.__version__
    model = randomised(Layout(tmp_path / "text"))
    model.logit_scale.fill_(4.4454)
    torch.save(model.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    write_vocabulary(tmp_path)
    family, peer = load_peer(tmp_path)
    assert family.name == "biomedclip" and abs(peer.temperature - 0.01173) < 1e-4
    pictures = images(2, 3, 32)
    assert close(peer.embed(peer.image(pictures)), model.visual(pictures))
    ids = tokens(TEXTS, tmp_path, 256)["input_ids"]
    assert close(peer.text.encode(TEXTS), model.text(ids))
