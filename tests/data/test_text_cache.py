import os

import numpy as np
import pandas as pd
import pytest
import torch
from folders import in_memory, write_folder

from imitate.data import text_cache
from imitate.data.corpus import Corpus
from imitate.data.text_cache import TextCache, corpus, text_embeddings
from imitate.errors import UserError


class Counting:
    """A text encoder that counts what it is asked."""

    name, width = "counting-2", 2

    def __init__(self, identity: str = "one", factor: float = 1.0):
        self.asked, self.identity, self.factor = [], identity, factor

    def encode(self, texts: list[str]) -> torch.Tensor:
        self.asked += texts
        return self.factor * torch.tensor([[len(text), text.count("e")] for text in texts], dtype=torch.float32)


@pytest.fixture
def data(tmp_path):
    return Corpus.open(write_folder(tmp_path / "data"))


def distinct(data, *sections):
    return {text for section in sections for text in data.text(section).dropna()}


@pytest.mark.parametrize("kept", [True, False])
def test_each_distinct_text_is_encoded_once_and_kept(tmp_path, data, kept):
    encoder = Counting()
    cache = TextCache(encoder, tmp_path / "cache" if kept else None)
    found = text_embeddings(data, cache, ("findings", "impression"))
    assert sorted(encoder.asked) == sorted(distinct(data, "findings", "impression"))
    rows = np.array([5, 0, 3, 0, len(data) - 1])
    for section, vectors in found.items():
        assert vectors.shape == (len(data), 2) and len(vectors) == len(data)
        for row, text in zip(vectors[:], data.text(section), strict=True):
            assert row.tolist() == ([len(text), text.count("e")] if isinstance(text, str) else [0, 0])
        assert np.array_equal(vectors[rows], vectors[:][rows]) and vectors[rows].dtype == np.float16
    text_embeddings(data, cache, ("findings",))
    assert len(encoder.asked) == len(distinct(data, "findings", "impression"))
    again = Counting()
    text_embeddings(data, TextCache(again, tmp_path / "cache"), ("findings", "impression"))
    assert (not again.asked) == kept
    assert not (data.root / "text").exists()


def test_only_texts_that_are_read_are_encoded(tmp_path, data):
    encoder = Counting()
    text_embeddings(data, TextCache(encoder, tmp_path / "cache"), ("impression",))
    assert set(encoder.asked) == distinct(data, "impression")
    text_embeddings(data, TextCache(encoder, tmp_path / "cache"), ("findings", "impression"))
    assert set(encoder.asked) == distinct(data, "findings", "impression")
    assert len(encoder.asked) == len(set(encoder.asked))


def test_an_encoder_of_other_weights_never_gets_the_first_ones_vectors(tmp_path, data):
    text_embeddings(data, TextCache(Counting(), tmp_path / "cache"))
    other = Counting("two", factor=2.0)
    found = text_embeddings(data, TextCache(other, tmp_path / "cache"))["findings"]
    row = int(np.flatnonzero(data.has("findings"))[0])
    assert other.asked and found[np.array([row])][0, 0] == 2 * len(data.text("findings").iloc[row])


def test_a_prepared_folder_may_be_read_only(tmp_path, data):
    data.root.chmod(0o555)
    try:
        before = sorted(path.name for path in data.root.rglob("*"))
        text_embeddings(data, TextCache(Counting(), tmp_path / "cache"))
        assert sorted(path.name for path in data.root.rglob("*")) == before
    finally:
        data.root.chmod(0o755)


def test_killed_it_continues_at_the_first_block_that_is_absent(tmp_path, monkeypatch):
    monkeypatch.setattr(text_cache, "BLOCK", 10)
    monkeypatch.setattr(text_cache, "AT_ONCE", 4)
    texts = pd.Series([f"text {'e' * i}" for i in range(35)])

    class Dying(Counting):
        def encode(self, texts):
            if len(self.asked) >= 25:
                raise KeyboardInterrupt
            return super().encode(texts)

    with pytest.raises(KeyboardInterrupt):
        TextCache(Dying(), tmp_path).fill(texts)
    again = Counting()
    cache = TextCache(again, tmp_path)
    cache.fill(texts)
    assert len(again.asked) == 15  # two blocks of ten were finished
    assert cache.embed(list(texts))[:, 0].tolist() == [len(text) for text in texts]
    assert not list(tmp_path.rglob("*.partial"))


def test_processes_share_the_blocks_and_read_one_anothers(tmp_path, monkeypatch):
    monkeypatch.setattr(text_cache, "BLOCK", 8)
    texts = [f"text {'e' * i}" for i in range(43)]
    encoders = [Counting() for _ in range(3)]
    caches = [TextCache(encoder, tmp_path) for encoder in encoders]
    for part, cache in enumerate(caches):
        cache.fill(texts, part=part, parts=3)
    assert sorted(text for encoder in encoders for text in encoder.asked) == sorted(texts)
    assert [len(encoder.asked) for encoder in encoders] == [16, 16, 11]
    for cache in caches:
        cache.read()
        assert cache.embed(texts)[:, 0].tolist() == [len(text) for text in texts]


def test_a_half_written_block_is_no_block(tmp_path):
    cache = TextCache(Counting(), tmp_path)
    cache.fill(["one", "two"])
    next(tmp_path.rglob("*.npy")).unlink()
    again = Counting()
    TextCache(again, tmp_path).fill(["one", "two"])
    assert sorted(again.asked) == ["one", "two"]


def test_reports_that_are_longer_than_the_encoder_reads_are_counted(tmp_path, monkeypatch, caplog):
    class Short(Counting):
        longest = 4

        def cut(self, texts: list[str]) -> list[str]:
            return [text for text in texts if len(text) > self.longest]

    monkeypatch.setattr(text_cache, "AT_ONCE", 2)
    cache = TextCache(Short(), tmp_path)
    cache.fill(["a", "heart", "clear", "b", "effusion"])
    said = "the text encoder counting-2 reads at most 4 word pieces: the end of 3 of 5 texts is ignored"
    assert caplog.messages == [said]
    cache.fill(["a", "heart"])
    TextCache(Counting(), tmp_path / "other").fill(["heart"])
    assert caplog.messages == [said]


def test_other_folders_are_read_but_not_written(tmp_path):
    TextCache(Counting(), tmp_path / "run").fill(["one"])
    before = sorted((tmp_path / "run").rglob("*"))
    encoder = Counting()
    cache = TextCache(encoder, tmp_path / "cache", also=[tmp_path / "run", tmp_path / "absent"])
    cache.fill(["one", "two"])
    assert encoder.asked == ["two"] and sorted((tmp_path / "run").rglob("*")) == before
    assert cache.embed(["two", "one"]).tolist() == [[3, 0], [3, 1]]


def test_what_float16_cannot_hold_is_its_largest_number():
    cache = TextCache(Counting(factor=1e6))
    cache.fill(["eee"])
    assert cache.embed(["eee"]).tolist() == [[65504, 65504]]
    with pytest.raises(UserError, match="counting-2 gives text embeddings that are not finite"):
        TextCache(Counting(factor=float("nan"))).fill(["eee"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written_is_the_users_to_fix(tmp_path):
    (tmp_path / "cache").mkdir(mode=0o555)
    with pytest.raises(UserError, match=r"cannot write .*cache: choose another --cache"):
        TextCache(Counting(), tmp_path / "cache").fill(["one"])


def test_the_whole_report_is_both_sections_or_the_one_there_is(data):
    data = in_memory(data)
    data.table.loc[7, ["findings", "impression"]] = None
    for whole, *sections in zip(data.text("report"), data.table["findings"], data.table["impression"], strict=True):
        known = [section for section in sections if isinstance(section, str)]
        assert whole == " ".join(known) if known else not isinstance(whole, str)
    assert not data.has("report")[7] and data.has("report").sum() == len(data) - 1


def test_corpus_is_the_train_splits_sections(data):
    train = data.table[data.table["split"] == "train"]
    assert len(corpus(data)) == train["has_findings"].sum() + train["has_impression"].sum()
    with pytest.raises(UserError, match="no report text"):
        corpus(data, split="none")


def test_the_encoder_is_on_the_device_only_while_it_computes(tmp_path, monkeypatch):
    moves = []
    monkeypatch.setattr("imitate.models.text.place", lambda encoder, device: moves.append(device))
    cache = TextCache(Counting(), tmp_path)
    cache.fill(["one"], device="cuda:1")
    cache.fill(["one"], device="cuda:1")
    assert moves == ["cuda:1", "cpu"]
