import torch
from peer_files import TEXTS, close, images, maps, randomised, tiny_bert, tiny_resnet, tokens, under, write_vocabulary
from torch import nn
from torch.nn import functional as F

from imitate.models.peers import load_peer


@torch.no_grad()
def test_the_global_vectors_are_those_of_a_plain_reference(tmp_path):
    network, project, text = tiny_resnet(), randomised(nn.Linear(2048, 128)), tiny_bert(layers=5)
    del network.fc
    state = {**under("gloria.img_encoder.model.", network), **under("gloria.img_encoder.global_embedder.", project)}
    state |= under("gloria.text_encoder.model.", text)
    state |= {"gloria.img_encoder.local_embedder.weight": torch.zeros(128, 1024, 1, 1)}
    torch.save({"state_dict": state}, tmp_path / "chexpert_resnet50.ckpt")
    write_vocabulary(tmp_path)
    family, peer = load_peer(tmp_path / "chexpert_resnet50.ckpt")
    assert family.name == "gloria"
    pictures = images(1, 3, 224)
    enlarged = F.interpolate(pictures, (299, 299), mode="bilinear", align_corners=True)
    assert close(peer.embed(peer.image(pictures)), project(maps(network, enlarged).mean((2, 3))))
    cleaned = ["no evidence of pleural effusion", "there is a large left pleural effusion",
               "the heart is normal no pneumonia"]  # fmt: skip
    for written, clean in zip(TEXTS, cleaned, strict=True):
        layers = text(**tokens([clean], tmp_path), output_hidden_states=True).hidden_states[-4:]
        expected = torch.stack(layers).sum((0, 2))
        assert close(F.normalize(peer.text.encode([written])), F.normalize(expected))
    together = peer.text.encode(TEXTS)
    assert close(together, torch.cat([peer.text.encode([text]) for text in TEXTS]))
