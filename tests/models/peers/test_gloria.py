import torch
from peer_files import TEXTS, close, images, maps, randomised, tiny_bert, tiny_resnet, tokens, under, write_vocabulary
from tiny_peers import write_gloria
from torch import nn
from torch.nn import functional as F

from imitate.models.peers import load_peer
from imitate.models.types import ImageFeatures


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


@torch.no_grad()
def test_the_authors_score_has_a_local_similarity_of_words_and_places(tmp_path):
    """Word by word and place by place; the number of words is that of the prompt's characters."""
    file = write_gloria(tmp_path, layers=5)
    _, peer = load_peer(file)
    state, text = torch.load(file)["state_dict"], tiny_bert(layers=5)
    place, whole = (state[f"gloria.img_encoder.{name}_embedder.weight"] for name in ("local", "global"))
    prompts = [
        "large effusions",
        "no left effusions is there no pneumonia of the heart a normal pleural effusion of no heart.",
    ]
    maps_ = [torch.randn(2, width, 3, 2, generator=torch.Generator().manual_seed(width)) for width in (8, 8, 1024, 8)]
    features = ImageFeatures(maps_, torch.randn(2, 2048, generator=torch.Generator().manual_seed(1)))
    found = peer.decoder(features, *peer.decoder.read(peer.text, prompts))
    pieces = [[2, 10, 8, 11, 3], [2, 4, 9, 8, 11, 12, 13, 4, 14, 6, 16, 15, 18, 17, 7, 8, 6, 4, 15, 3]]
    spans = [[1, 1, 2], [1, 1, 1, 2, *[1] * 14]]  # a word of "##s" has two pieces
    expected = torch.zeros(2, 2)
    for column, (ids, lengths, prompt) in enumerate(zip(pieces, spans, prompts, strict=True)):
        ids = torch.tensor([ids])
        layers = text(input_ids=ids, output_hidden_states=True).hidden_states[-4:]
        summed = sum(layers)[0]
        words, start = [], 0
        for length in [*lengths, 1]:
            words.append(summed[start : start + length].sum(0))
            start += length
        words = [*words[1:], *[torch.zeros(128)] * 97][: min(len(prompt), 96)]
        for row in range(2):
            seen = maps_[2][row].flatten(1).T @ place[:, :, 0, 0].T  # places, width
            weights = torch.stack([torch.stack([p @ w for w in words]).softmax(0) for p in seen])
            best = -1.0
            for number, word in enumerate(words):
                context = ((4 * weights[:, number]).softmax(0)[:, None] * seen).sum(0)
                best = max(best, float(context @ word / max(float(context.norm() * word.norm()), 1e-8)))
            vector = whole @ features.pooled[row] + state["gloria.img_encoder.global_embedder.bias"]
            cosine = F.cosine_similarity(vector, summed.sum(0), dim=0)
            expected[row, column] = (cosine + torch.tensor(best).mul(5).exp().log()) / 2
    assert close(found, expected)
