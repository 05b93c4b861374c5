"""The text encoder as a module that learns, on a tiny BERT written to disk here."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from needs import need_module
from safetensors.torch import load_file
from text_models import SMALL, texts, write_bert, write_clip, write_gpt

from imitate.data.text_cache import SentenceRows, TextCache
from imitate.errors import UserError
from imitate.models import small_bert
from imitate.models.lsa import LsaTextEncoder
from imitate.models.text import fit_or_load, load_text_encoder, save_text_encoder
from imitate.models.text_tower import TextTower

REPORTS = ["heart size is normal", "small left pleural effusion right lower lobe opacity", "clear"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    return write_bert(tmp_path_factory.mktemp("bert"))


def tower(bert: Path, pooling: str = "mean", **part: int) -> TextTower:
    return TextTower(fit_or_load(f"hf:{bert}:{pooling}", []), **(part or {"layers": 1}))


def test_word_pieces_are_those_of_the_tokenizer_and_have_a_digest_of_their_own(bert, tmp_path):
    encoder: Any = fit_or_load(f"hf:{bert}", [])
    read = TextTower(encoder, layers=1).pieces
    cache = TextCache(read, tmp_path)
    cache.fill(REPORTS)
    stored = cache.embed(REPORTS)
    assert stored.dtype == "int32" and stored.shape == (3, 256)
    for row, text in zip(stored, REPORTS, strict=True):
        assert [number - 1 for number in row if number] == encoder._tokenizer(text)["input_ids"]
    assert [path.name for path in tmp_path.iterdir()] == [read.identity] != [encoder.identity]
    changed = encoder.learned(encoder.network, "all")
    for weight in changed.network.parameters():
        weight.data.add_(1)
    assert changed._digest() != encoder.identity and TextTower(changed, layers=1).pieces.identity == read.identity


def test_sentences_that_are_drawn_together_are_read_one_after_the_other(bert):
    made = tower(bert)
    cache = TextCache(made.pieces)
    cache.fill(REPORTS)
    rows = SentenceRows(cache.rows(pd.Series(REPORTS, dtype="str")), np.array([2, 0, 1]), 2)
    first, none, last = rows.drawn(np.arange(3), (0, 0))
    stored = [[number for number in row if number] for row in cache.embed(REPORTS)]
    assert [number for number in first if number] == stored[0] + stored[1] and first.dtype == np.int32
    assert not none.any() and [number for number in last if number] == stored[2]
    long = SentenceRows(cache.rows(pd.Series(REPORTS * 30, dtype="str")), np.array([90]), 90)
    assert (long.drawn(np.array([0]), (0, 0)) > 0).all()  # cut where the encoder ends


def test_a_small_bert_learns_behind_its_whitening(monkeypatch, tmp_path):
    monkeypatch.setattr(small_bert, "SHAPE", SMALL)
    encoder = small_bert.SmallBertTextEncoder.fit(texts(), steps=2)
    expected = encoder.encode(texts(6))
    made = TextTower(encoder, layers=1)
    vectors = made(made.pieces.encode(texts(6)))
    torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert made(made.pieces.encode(texts(6))).dtype == torch.float32
    vectors.square().sum().backward()
    assert all(w.grad.any() for name, w in made.named_parameters() if w.requires_grad and "key.bias" not in name)
    for weight in made.learned().values():
        weight.add_(0.05)
    save_text_encoder(made.encoder(), tmp_path)
    kept = load_text_encoder(tmp_path)
    assert isinstance(kept, small_bert.SmallBertTextEncoder) and kept.name == f"{encoder.name}-trained"
    torch.testing.assert_close(kept.encode(texts(6)), made(made.pieces.encode(texts(6))).detach(), atol=1e-5, rtol=1e-5)
    assert (kept.encode(texts(6)) - expected).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["bert:cls", "bert:mean", "gpt:last", "clip:last"])
def test_it_gives_the_encoders_vectors_and_zeros_where_there_is_no_text(tmp_path, bert, kind):
    name, pooling = kind.split(":")
    write = {"gpt": lambda: write_gpt(tmp_path, padding=None), "clip": lambda: write_clip(tmp_path)}
    folder = write[name]() if name in write else bert
    encoder = fit_or_load(f"hf:{folder}:{pooling}", [])
    expected = encoder.encode(REPORTS)
    made = TextTower(encoder, layers=1)
    pieces = torch.cat([made.pieces.encode(REPORTS), torch.zeros(1, made.pieces.width, dtype=torch.int32)])
    longest = int((pieces > 0).sum(1).max())
    found = made.train()(pieces[:, :longest])
    torch.testing.assert_close(found[:3], expected, atol=1e-5, rtol=1e-5)
    assert not found[3].any() and found.requires_grad and not made.training
    found.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in made.parameters() if weight.requires_grad)


def test_the_last_layers_learn_and_nothing_else(bert):
    made = tower(bert, layers=1)
    learning = {name for name, weight in made.named_parameters() if weight.requires_grad}
    assert learning == {name for name in made.state_dict() if ".encoder.layer.1." in name} == made.learned().keys()
    assert {name.split(".layer.")[1][0] for name in tower(bert, layers=2).learned()} == {"0", "1"}


def test_adapters_start_as_the_encoder_and_merge_into_what_they_are(bert, tmp_path):
    need_module("peft", "lora")
    before = fit_or_load(f"hf:{bert}:mean", [])
    made, other, again = (tower(bert, lora=4), tower(bert, lora=4, seed=1), tower(bert, lora=4))
    pieces = made.pieces.encode(texts(6))
    torch.testing.assert_close(made(pieces), before.encode(texts(6)), atol=1e-6, rtol=1e-6)
    learned = made.learned()
    assert learned and all("lora_" in name for name in learned)
    assert all(torch.equal(weight, again.learned()[name]) for name, weight in learned.items())
    assert not all(torch.equal(weight, other.learned()[name]) for name, weight in learned.items())
    generator = torch.Generator().manual_seed(0)
    moved = {name: 0.3 * torch.randn(weight.shape, generator=generator) for name, weight in learned.items()}
    made.restore(moved)
    found = made(pieces).detach()
    assert (found - before.encode(texts(6))).abs().max() > 1e-2
    merged = made.encoder()
    assert (merged.encode(texts(6)) - found).abs().max() < 1e-6
    save_text_encoder(merged, tmp_path / "text")
    assert not any("lora" in name for name in load_file(tmp_path / "text/model.safetensors"))
    kept = load_text_encoder(tmp_path / "text")
    assert torch.equal(kept.encode(texts(6)), merged.encode(texts(6))) and kept.identity == merged.identity
    torch.testing.assert_close(made(pieces), found, atol=0, rtol=0)  # it learns on


def test_what_has_learned_is_saved_over_what_was_there(bert, tmp_path):
    made = tower(bert, layers=2)
    first = made.encoder()
    save_text_encoder(first, tmp_path)
    for weight in made.learned().values():
        weight.add_(0.1)
    second = made.encoder()
    assert second.identity != first.identity and not any(w.requires_grad for w in second.network.parameters())
    save_text_encoder(second, tmp_path)
    kept = load_text_encoder(tmp_path)
    assert kept.identity == second.identity and kept.name == first.name and kept.name.endswith("-mean-trained")
    assert json.loads((tmp_path / "text.json").read_text())["trained"] == "the last 2 layers"
    assert not (tmp_path / "part").exists()
    second.encode(REPORTS)
    assert any(weight.requires_grad for weight in made.parameters())


def test_what_cannot_be_trained_is_reported(bert, monkeypatch):
    with pytest.raises(UserError, match="training.text_layers is 3, but .* has only 2 layers"):
        tower(bert, layers=3)
    lsa = LsaTextEncoder.fit(texts(), width=4)
    with pytest.raises(UserError, match=r"lsa-4-\w+ has no layers to train: use bert-small"):
        TextTower(lsa, layers=1)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"training.text_lora needs PEFT: pip install 'imitate-cxr\[lora\]'"):
        tower(bert, lora=2)
