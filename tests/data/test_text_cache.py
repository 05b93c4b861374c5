import numpy as np
import pytest
import torch
from folders import in_memory, write_folder

from imitate.data.corpus import Corpus
from imitate.data.text_cache import corpus, text_embeddings
from imitate.errors import UserError


class Counting:
    """A text encoder that counts what it is asked."""

    name, width = "counting-2", 2

    def __init__(self):
        self.asked = []

    def encode(self, texts: list[str]) -> torch.Tensor:
        self.asked += texts
        return torch.tensor([[len(text), text.count("e")] for text in texts], dtype=torch.float32)


def test_each_distinct_text_is_encoded_once_and_kept(tmp_path):
    data, encoder = Corpus.open(write_folder(tmp_path / "data")), Counting()
    arrays = text_embeddings(data, encoder)
    assert len(encoder.asked) == len(set(encoder.asked))
    for section, array in arrays.items():
        for row, text in zip(array, data.text(section), strict=True):
            assert row.tolist() == ([len(text), text.count("e")] if isinstance(text, str) else [0, 0])
    again = Counting()
    assert np.array_equal(text_embeddings(data, again)["findings"], arrays["findings"]) and not again.asked


def test_the_whole_report_is_both_sections_or_the_one_there_is(tmp_path):
    data = in_memory(Corpus.open(write_folder(tmp_path / "data")))
    data.table.loc[7, ["findings", "impression"]] = None
    for whole, *sections in zip(data.text("report"), data.table["findings"], data.table["impression"], strict=True):
        known = [section for section in sections if isinstance(section, str)]
        assert whole == " ".join(known) if known else not isinstance(whole, str)
    assert not data.has("report")[7] and data.has("report").sum() == len(data) - 1


def test_a_folder_from_before_the_whole_report_is_completed(tmp_path):
    data, encoder = Corpus.open(write_folder(tmp_path / "data")), Counting()
    text_embeddings(data, encoder)
    (data.root / "text" / encoder.name / "report.npy").unlink()
    assert len(text_embeddings(data, encoder)["report"]) == len(data)


def test_embeddings_of_other_data_are_made_anew(tmp_path):
    data, encoder = Corpus.open(write_folder(tmp_path / "data")), Counting()
    text_embeddings(data, encoder)
    data.meta["fingerprint"] = "other"
    again = Counting()
    text_embeddings(data, again)
    assert again.asked


def test_corpus_is_the_train_splits_sections(tmp_path):
    data = Corpus.open(write_folder(tmp_path / "data"))
    train = data.table[data.table["split"] == "train"]
    assert len(corpus(data)) == train["has_findings"].sum() + train["has_impression"].sum()
    with pytest.raises(UserError, match="no report text"):
        corpus(data, split="none")
