import torch
from open_clip.modified_resnet import AttentionPool2d
from peer_files import close, images, maps, randomised, tiny_bert, tiny_resnet, tokens, under, write_vocabulary
from torch import nn

from imitate.models.peers import load_peer


@torch.no_grad()
def test_attention_pooling_and_mixtures_of_prototypes(tmp_path):
    network, text = tiny_resnet(1), tiny_bert()
    del network.fc
    pool = randomised(AttentionPool2d(7, 2048, 8, 2048))
    sees, local = randomised(nn.Linear(2048, 128)), randomised(nn.Linear(128, 128))
    reads = randomised(AttentionPool2d(1, 128, 8, 128))
    bank = torch.randn(9, 128, generator=torch.Generator().manual_seed(0)) / 5
    state = {**under("image_encoder.encoder.", network), **under("image_encoder.atten_pool.", pool)}
    state |= {**under("text_encoder.encoder.", text), **under("global_text_attention.", reads)}
    del state["global_text_attention.positional_embedding"]
    state |= {**under("global_image_projection.", sees), **under("local_text_projection.", local)}
    state |= {"sentence_bank.embed.weight": bank, "logit_scale": torch.tensor(10.0)}
    torch.save(state, tmp_path / "prior.pt")
    write_vocabulary(tmp_path)
    family, peer = load_peer(tmp_path / "prior.pt")
    assert family.name == "prior" and abs(peer.temperature - 0.1) < 1e-6
    pictures = images(1, 1, 224)
    features = peer.image(pictures)
    assert close(features.pooled, pool(maps(network, pictures)))
    assert close(peer.embed(features), sees(features.pooled))
    reads.positional_embedding.zero_()
    for sentence in ("pleural effusion is normal", "no heart"):
        hidden = text(**tokens([sentence], tmp_path)).last_hidden_state[:, 1:-1]
        mixed = (local(hidden.mean(1)) @ bank.T / 0.9).softmax(1) @ bank
        expected = reads(mixed[:, :, None, None])  # a map of one place
        assert close(peer.text.encode([sentence]), expected)
