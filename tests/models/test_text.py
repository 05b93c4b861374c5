"""Both text encoders; the Hugging Face door is tested offline on a tiny BERT written to disk here."""

from typing import Any

import pytest
import torch

from imitate.errors import UserError
from imitate.models.text import LsaTextEncoder, fit_or_load, load_text_encoder, save_text_encoder
from imitate.models.types import TextEncoder

WORDS = [
    "heart",
    "size",
    "is",
    "normal",
    "lungs",
    "are",
    "clear",
    "no",
    "pleural",
    "effusion",
    "left",
    "right",
    "small",
    "large",
    "opacity",
    "lobe",
    "upper",
    "lower",
]


def texts(n: int = 40) -> list[str]:
    generator = torch.Generator().manual_seed(0)
    return [" ".join(WORDS[i] for i in torch.randint(len(WORDS), (9,), generator=generator)) for _ in range(n)]


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory):
    from transformers import BertConfig, BertModel, BertTokenizerFast  # type: ignore[attr-defined]

    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=5 + len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def test_lsa_round_trip_gives_the_same_embeddings_and_name(tmp_path):
    encoder = fit_or_load("lsa-8", texts())
    assert isinstance(encoder, TextEncoder)
    save_text_encoder(encoder, tmp_path)
    again = load_text_encoder(tmp_path)
    assert again.name == encoder.name and again.width == encoder.width == 8
    assert torch.equal(again.encode(texts(5)), encoder.encode(texts(5)))


def test_lsa_ignores_marks_of_deidentification_and_centres_the_corpus():
    encoder = LsaTextEncoder.fit(texts(), width=8)
    plain, marked = encoder.encode(["left effusion", "XXXX left ___ effusion XXXX"])
    torch.testing.assert_close(plain, marked)
    assert encoder.encode(sorted(set(texts()))).mean(0).abs().max() < 1e-5


def test_like_texts_correlate_more_than_unlike_ones():
    encoder = LsaTextEncoder.fit(texts(200), width=12)
    a, b, c = encoder.encode(["small left pleural effusion", "left pleural effusion large", "heart size is normal"])
    correlation = torch.corrcoef(torch.stack([a, b, c]))
    assert correlation[0, 1] > 0.5 > correlation[0, 2]


def test_hugging_face_door(tiny_bert, tmp_path):
    reports = ["heart size is normal", "small left pleural effusion right lower lobe opacity", "lungs are clear"]
    for pooling in ("cls", "mean"):
        encoder = fit_or_load(f"hf:{tiny_bert}:{pooling}", [])
        together = encoder.encode(reports)
        assert together.shape == (3, 16)
        alone = torch.cat([encoder.encode([report]) for report in reports])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)  # padding does not leak
        save_text_encoder(encoder, tmp_path / pooling)
        again = load_text_encoder(tmp_path / pooling)
        assert again.name == encoder.name
        torch.testing.assert_close(again.encode(reports), together)


def test_hugging_face_is_frozen_and_long_reports_are_cut(tiny_bert):
    encoder: Any = fit_or_load(f"hf:{tiny_bert}", [])
    assert not any(p.requires_grad for p in encoder._model.parameters()) and not encoder._model.training
    assert torch.isfinite(encoder.encode(["opacity " * 1000])).all()


@pytest.mark.parametrize(
    "spec, message",
    [
        ("word2vec", "unknown text encoder 'word2vec'"),
        ("hf:some/model", "names no revision"),
        ("lsa-0", "at least 3|2"),
    ],
)
def test_user_errors(spec, message):
    with pytest.raises(UserError, match=message):
        fit_or_load(spec, ["one", "two"])


def test_lsa_tells_the_words_that_it_knows():
    encoder = LsaTextEncoder.fit(texts(), width=8)
    assert encoder.words("Small hydropneumothorax, 3 XXXX") == {"small": True, "hydropneumothorax": False}
    assert torch.equal(encoder.encode(["small effusion"]), encoder.encode(["small effusion hydropneumothorax"]))
