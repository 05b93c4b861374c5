"""Folders that transformers writes, beside transformers: CLIP, SigLIP, DINOv2 with and without registers."""

import json

import pytest
import torch
from peer_files import TEXTS, close, images, randomised, write_clip_merges

from imitate.errors import UserError
from imitate.models.peers import load_peer
from imitate.models.peers.huggingface import preprocessing
from imitate.models.peers.tokens import find_tokenizer

VISION = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
          "image_size": 32, "patch_size": 8}  # fmt: skip
TEXT = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}


def vector(found):
    """Of version 4 a tensor, of version 5 an output."""
    return found if isinstance(found, torch.Tensor) else found.pooler_output


@pytest.mark.parametrize("end, activation", [(2, "quick_gelu"), (49407, "gelu")])
@torch.no_grad()
def test_clip(tmp_path, end, activation):
    from transformers import CLIPConfig, CLIPModel

    act = {"hidden_act": activation}
    config = CLIPConfig(
        vision_config={**VISION, **act}, text_config={**TEXT, **act, "vocab_size": 49408, "eos_token_id": end},
        projection_dim=24,
    )  # fmt: skip
    model = randomised(CLIPModel(config))
    model.save_pretrained(tmp_path)
    write_clip_merges(tmp_path)
    family, peer = load_peer(tmp_path)
    assert family.name == "clip"
    pictures = images(2, 3, 32)
    assert close(peer.embed(peer.image(pictures)), vector(model.get_image_features(pixel_values=pictures)))
    pieces = [peer.text.pieces(text) for text in TEXTS]
    ids = torch.tensor([each + [49407] * (12 - len(each)) for each in pieces])
    mask = torch.tensor([[1] * len(each) + [0] * (12 - len(each)) for each in pieces])
    assert close(peer.text.encode(TEXTS), vector(model.get_text_features(input_ids=ids, attention_mask=mask)))


@torch.no_grad()
def test_siglip_reads_texts_padded_to_its_length_and_takes_the_last_place(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import SiglipConfig, SiglipModel

    config = SiglipConfig(
        vision_config=VISION,
        text_config={**TEXT, "vocab_size": 40, "projection_size": 64, "max_position_embeddings": 16},
    )
    model = randomised(SiglipModel(config))
    model.save_pretrained(tmp_path)
    words = {word: i for i, word in enumerate(["<unk>", "</s>", "there", "is", "a", "large", "left", "no", "heart"])}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    family, peer = load_peer(tmp_path)
    assert family.name == "siglip" and peer.head is None
    pictures = images(2, 3, 32)
    found = model.get_image_features(pixel_values=pictures)
    assert close(peer.embed(peer.image(pictures)), vector(found))
    texts = ["there is a large heart", "no heart"]
    ids = torch.full((2, 16), 1)
    ids[0, :5], ids[1, :2] = torch.tensor([2, 3, 4, 5, 8]), torch.tensor([7, 8])
    assert close(peer.text.encode(texts), vector(model.get_text_features(input_ids=ids)))


@pytest.mark.parametrize("registers, gated", [(0, False), (0, True), (4, False)])
@torch.no_grad()
def test_dinov2(tmp_path, registers, gated):
    import transformers

    kind = "Dinov2WithRegisters" if registers else "Dinov2"
    options = {"num_register_tokens": registers} if registers else {}
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=64, num_hidden_layers=4, num_attention_heads=4, mlp_ratio=2, image_size=32, patch_size=8,
        use_swiglu_ffn=gated, **options,
    )  # fmt: skip
    model = randomised(getattr(transformers, f"{kind}Model")(config))
    model.save_pretrained(tmp_path)
    family, peer = load_peer(tmp_path)
    assert family.name == "dinov2" and peer.text is None
    pictures = images(2, 3, 32)
    whole = model(pixel_values=pictures)
    features = peer.image(pictures)
    assert close(features.pooled, whole.pooler_output)
    patches = peer.image.network.norm(features.levels[-1].flatten(2).mT)
    assert close(patches, whole.last_hidden_state[:, 1 + registers :])


def test_a_configuration_that_does_not_fit_is_refused(tmp_path):
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig(vision_config=VISION, text_config={**TEXT, "vocab_size": 50}, projection_dim=24)
    CLIPModel(config).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    values["text_config"]["num_attention_heads"] = 7
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="no network has these sizes: .*divisible") as error:
        load_peer(tmp_path)
    assert "\n" not in str(error.value)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is not a JSON file"):
        load_peer(tmp_path)


def test_the_folder_says_how_images_are_prepared(tmp_path):
    from imitate.models.peers.base import prepared

    default = prepared("stretch-bicubic", 32)
    said = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}, "resample": 2,
            "image_mean": [0.1] * 3, "image_std": [0.2] * 3}  # fmt: skip
    found = preprocessing({"preprocessor": said}, 32, default)
    assert (found.resize, found.prepared_size, found.image_size, found.mean[0]) == ("crop-bilinear", 40, 32, 0.1)
    square = preprocessing({"preprocessor": {"size": {"height": 48, "width": 48}, "resample": 3}}, 48, default)
    assert (square.resize, square.prepared_size, square.image_size) == ("stretch-bicubic", 48, 48)
    assert preprocessing(json.loads("{}"), 32, default) == default


SENTENCES = ["There is a large left pleural effusion.", "NO  heart, no lungs!", "it's", "xyz 3.5 cm"]


def test_a_vocabulary_of_sentencepiece_is_read_as_transformers_does(tmp_path, monkeypatch):
    import sentencepiece
    from transformers import SiglipTokenizer

    (tmp_path / "corpus.txt").write_text("\n".join(f"{text.lower()} {n}" for n in range(30) for text in SENTENCES))
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "corpus.txt"), model_prefix=str(tmp_path / "spiece"), vocab_size=44, pad_id=0, eos_id=1,
        unk_id=2, bos_id=-1, minloglevel=9,
    )  # fmt: skip
    found = find_tokenizer("sentencepiece", tmp_path)
    theirs = SiglipTokenizer(str(tmp_path / "spiece.model"))
    assert [found.ids(text) for text in SENTENCES] == [theirs(text)["input_ids"] for text in SENTENCES]
    assert found.pad == theirs.pad_token_id == 1
    (tmp_path / "tokenizer_config.json").write_text('{"pad_token": {"content": "<pad>"}}')
    assert find_tokenizer("sentencepiece", tmp_path).pad == 0
    monkeypatch.setitem(__import__("sys").modules, "sentencepiece", None)
    with pytest.raises(UserError, match=r"spiece\.model is read by the package sentencepiece: pip install") as error:
        find_tokenizer("sentencepiece", tmp_path)
    assert "\n" not in str(error.value)
