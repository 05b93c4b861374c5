"""The parts of the Hugging Face door, without a model."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from imitate.errors import UserError
from imitate.models import hugging_face
from imitate.models.lsa import LsaTextEncoder
from imitate.models.text import load_text_encoder, save_text_encoder


def test_a_text_is_its_first_its_last_or_the_mean_of_its_pieces() -> None:
    hidden = torch.arange(12.0).view(2, 3, 2)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert hugging_face.pooled(hidden, mask, "cls").tolist() == [[0, 1], [6, 7]]
    assert hugging_face.pooled(hidden, mask, "last").tolist() == [[2, 3], [10, 11]]
    assert hugging_face.pooled(hidden, mask, "mean").tolist() == [[1, 2], [8, 9]]


@pytest.mark.parametrize(
    ("kind", "positions", "longest", "expected"),
    [
        ("bert", 512, 10**30, 256),
        ("bert", 20, 10**30, 20),
        ("bert", 512, 77, 77),
        ("bert", None, 10**30, 256),
        ("roberta", 20, 10**30, 18),
        ("xlm-roberta", 20, 10**30, 18),
        ("camembert", 20, 10**30, 18),
    ],
)
def test_a_text_is_cut_at_the_least_of_three_lengths(
    kind: str, positions: int | None, longest: int, expected: int
) -> None:
    config = SimpleNamespace(model_type=kind, max_position_embeddings=positions, pad_token_id=1)
    assert hugging_face._longest(SimpleNamespace(model_max_length=longest), config) == expected
    config.pad_token_id = None  # then positions begin at 1
    assert kind == "bert" or hugging_face._longest(SimpleNamespace(model_max_length=longest), config) == 19


@pytest.mark.parametrize(
    ("kind", "causal"), [("gpt2", True), ("clip_text_model", True), ("bert", False), ("roberta", False), ("vit", False)]
)
def test_which_models_read_only_what_came_before(kind: str, causal: bool) -> None:
    assert hugging_face._is_causal(kind) == causal


class Kind:
    @staticmethod
    def from_config(config: object) -> nn.Module:
        return nn.Linear(9, 10)  # a hundred numbers


def test_weights_of_less_than_a_byte_a_number_do_not_fit(tmp_path: Path) -> None:
    config = SimpleNamespace(num_hidden_layers=512)
    hugging_face._check_size(Kind, config, tmp_path)  # no weights: another message says so
    save_file({"x": torch.zeros(1, dtype=torch.uint8)}, tmp_path / "model.safetensors")
    held = (tmp_path / "model.safetensors").stat().st_size
    assert held < 100
    with pytest.raises(UserError, match=f"does not fit the weights: they have {held} bytes in all"):
        hugging_face._check_size(Kind, config, tmp_path)
    save_file({"x": torch.zeros(100, dtype=torch.uint8)}, tmp_path / "model.safetensors")
    hugging_face._check_size(Kind, config, tmp_path)
    for name in ("num_hidden_layers", "n_layer", "num_layers"):
        with pytest.raises(UserError, match="has 513 layers, more than 512"):
            hugging_face._check_size(Kind, SimpleNamespace(**{name: 513}), tmp_path)


@pytest.mark.parametrize("damage", [{"kind": "x"}, {"pooling": "max"}, {"pooling": None}, {"name": 3}, {"name": None}])
def test_a_record_that_is_no_encoder_s_is_reported(tmp_path: Path, damage: dict[str, object]) -> None:
    (tmp_path / "text.json").write_text(json.dumps({"kind": "hf", "pooling": "cls", "name": "bert", **damage}))
    with pytest.raises(UserError, match="text.json is damaged: it must hold kind, name and pooling of a text encoder"):
        load_text_encoder(tmp_path)


def test_a_fitted_encoder_is_as_wide_as_its_corpus_allows(tmp_path: Path) -> None:
    encoder = LsaTextEncoder.fit(["left effusion", "right effusion", "clear lungs", "clear lungs"], width=99)
    assert encoder.width == 2 and encoder.encode([]).shape == (0, 2)  # three distinct texts
    few = LsaTextEncoder.fit(["ab", "cd", "ef", "ab ef", "cd cd", "ef ef ef"], width=99)
    assert few.width == 5
    repeated = LsaTextEncoder.fit(["ab", "cd", "ef", "gh"] * 2, width=99)
    assert repeated.width == 3
    with pytest.raises(UserError, match="needs at least 3 distinct texts, but the corpus has 2"):
        LsaTextEncoder.fit(["ab cd", "ef gh"], width=8)
    assert encoder.name == f"lsa-2-{encoder.identity[:8]}" and encoder.record == {"kind": "lsa", "name": encoder.name}
    save_text_encoder(encoder, tmp_path / "a" / "b")
    save_text_encoder(encoder, tmp_path / "a" / "b")
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {
        "lsa.safetensors",
        "text.json",
        "vocabulary.json",
    }


@pytest.mark.parametrize(("texts", "known"), [(100, True), (101, False)])
def test_in_a_larger_corpus_a_word_of_one_text_is_not_learnt(texts: int, known: bool) -> None:
    words = ["aa", "bb", "cc", "dd", "ee", "ff", "gg", "hh", "ii", "jj"]
    corpus = [f"{words[i % 10]} {words[i // 10]} common" for i in range(texts - 1)]
    assert LsaTextEncoder.fit([*corpus, "once common"], width=2).words("once common") == {"once": known, "common": True}
