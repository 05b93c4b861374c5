from pathlib import Path

import numpy as np
import pytest
import torch
from folders import edit_rows, in_memory, write_folder

from imitate.data import sampler
from imitate.data.corpus import Corpus
from imitate.data.sampler import BatchReader, BatchSampler, LabelReader, quotas, read_ahead, training_rows, warm_up
from imitate.data.text_cache import TextCache, fill, sentence_rows, text_embeddings
from imitate.errors import UserError
from imitate.models.text import fit_or_load


@pytest.fixture
def data(tmp_path):
    return Corpus.open(write_folder(tmp_path / "data"))


def test_every_epoch_is_another_permutation_of_all_rows():
    order = BatchSampler([np.arange(40) * 2], batch_size=10, seed=1)
    epochs = [np.concatenate([order.batch(e * 4 + i) for i in range(4)]) for e in range(3)]
    assert all(sorted(epoch) == list(range(0, 80, 2)) for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    again = BatchSampler([np.arange(40) * 2], batch_size=10, seed=1)
    assert np.array_equal(again.batch(9), order.batch(9))
    assert not np.array_equal(BatchSampler([np.arange(40) * 2], batch_size=10, seed=2).batch(0), order.batch(0))


def test_too_few_samples_for_a_batch_are_reported():
    with pytest.raises(UserError, match="9 training samples are fewer than batch_size 10"):
        BatchSampler([np.arange(9)], batch_size=10, seed=0)


def test_training_rows_have_a_section_and_are_of_the_train_split(data):
    data = in_memory(data)
    data.table.loc[3, ["findings", "impression"]] = None
    (rows,) = training_rows(data)
    assert 3 not in rows and set(data.table["split"].iloc[rows]) == {"train"}


def test_reader_pairs_images_texts_and_flags_by_row(data):
    encoder = fit_or_load("lsa-8", ["left effusion normal", "right heart size", "lungs clear normal size"] * 4)
    texts = text_embeddings(data, TextCache(encoder))
    rows = np.array([12, 4, 22, 5])
    batch = BatchReader(data, texts)(rows)
    assert np.array_equal(batch["images"], data.images[rows])
    assert batch["has_findings"].tolist() == [True, False, False, True]
    for section in ("findings", "impression"):
        for i, row in enumerate(rows):
            text = data.text(section)[row]
            expected = encoder.encode([text])[0].half().float() if isinstance(text, str) else 0
            assert (batch[section][i] - expected).abs().max() < 1e-3


def test_a_batch_has_the_texts_that_are_read_and_those_of_the_prior(data):
    texts = {name: np.full((len(data), 1), i, np.float16) for i, name in enumerate(("findings", "report"))}
    rows = np.arange(len(data))
    batch: dict = BatchReader(data, texts, priors={"report": np.full((len(data), 3), 7, np.float16)})(rows)
    assert set(batch) == {"images", "findings", "report", "prior_report", "has_findings", "has_report"}
    assert (batch["findings"] == 0).all() and (batch["report"] == 1).all() and (batch["prior_report"] == 7).all()
    assert np.array_equal(batch["has_findings"], data.has("findings"))
    assert np.array_equal(batch["has_report"], data.has("findings") | data.has("impression"))


def test_a_report_without_a_sentence_has_no_sentences(data):
    data = in_memory(data)
    row, *_, other = np.flatnonzero(data.has("sentences"))
    data.table.loc[row, ["findings", "impression"]] = "___."
    cache = TextCache(fit_or_load("lsa-8", ["left effusion normal", "right heart size", "lungs clear normal size"] * 4))
    fill(data, cache, ["sentences"])
    batch: dict = BatchReader(data, {"sentences": sentence_rows(data, cache)})(np.arange(len(data)))
    assert data.has("sentences")[row] and not batch["has_sentences"][row] and batch["has_sentences"][other]


def test_word_pieces_are_cut_behind_the_longest_text_of_the_batch(data):
    pieces = np.zeros((len(data), 9), np.int32)
    pieces[2, :4], pieces[5, :2], pieces[7, :8] = 7, 8, 9
    reader = BatchReader(data, {"report": pieces})
    found = reader(np.array([5, 2, 3]))["report"]
    assert found.dtype == torch.int32 and found.tolist() == [[8, 8, 0, 0], [7, 7, 7, 7], [0, 0, 0, 0]]
    assert reader(np.array([3, 4]))["report"].tolist() == [[0], [0]]


def test_a_batch_has_the_labels_of_its_rows(data):
    texts = {name: np.zeros((len(data), 1), np.float16) for name in ("findings", "impression")}
    rows = np.array([7, 2, 9])
    batch, plain = LabelReader(data, texts)(rows), BatchReader(data, texts)(rows)
    assert batch.keys() - plain.keys() == {"labels"}
    np.testing.assert_array_equal(batch["labels"], data.labels[rows])


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_reading_ahead_keeps_the_order_and_loses_nothing(data, depth):
    texts = {section: np.zeros((len(data), 4), np.float16) for section in ("findings", "impression")}
    batches = [np.array([i, i + 1]) for i in range(7)]
    found = [
        batch["images"].numpy()
        for batch in read_ahead(BatchReader(data, texts), iter([(b, 0) for b in batches]), depth=depth)
    ]
    assert all(np.array_equal(a, data.images[b]) for a, b in zip(found, batches, strict=True))


def test_warming_up_reads_the_whole_files_unless_memory_is_too_small_or_unknown(tmp_path, monkeypatch):
    paths = [tmp_path / "00000.npy", tmp_path / "00001.npy"]
    for path in paths:
        path.write_bytes(bytes(2**24 + 5))

    def bytes_read() -> int:
        (line,) = (line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("rchar"))
        return int(line.split()[1])

    before = bytes_read()
    warm_up(paths).join()
    assert bytes_read() - before >= 2 * (2**24 + 5)
    monkeypatch.setattr(sampler.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**14}.__getitem__)
    assert warm_up(paths) is None
    monkeypatch.delattr(sampler.os, "sysconf")
    assert warm_up(paths) is None


CORPORA = [np.arange(40), np.arange(40, 50), np.arange(50, 57)]


def epochs(sampler: BatchSampler, count: int) -> list[np.ndarray]:
    steps = sampler.steps_per_epoch
    return [np.concatenate([sampler.batch(epoch * steps + i) for i in range(steps)]) for epoch in range(count)]


def test_corpora_without_weights_are_one_permutation_as_before():
    mixed = BatchSampler(CORPORA, batch_size=57, seed=3)
    expected = [np.random.default_rng([3, epoch]).permutation(57) for epoch in range(2)]
    assert all(np.array_equal(a, b) for a, b in zip(epochs(mixed, 2), expected, strict=True))
    alone = BatchSampler(CORPORA[:1], batch_size=40, seed=3, weights=[0.1])
    assert np.array_equal(alone.batch(0), np.random.default_rng([3, 0]).permutation(40))


def test_each_corpus_supplies_its_weights_fraction_and_all_its_rows_before_one_again():
    mixed = BatchSampler(CORPORA, batch_size=57, seed=0, weights=[1, 0.5, 2])
    found = epochs(mixed, 12)
    wanted = quotas([1, 0.5, 2], 57)
    assert wanted == [16, 8, 33]  # 16.29, 8.14, 32.57
    for epoch in found:
        assert [int(np.isin(epoch, rows).sum()) for rows in CORPORA] == wanted
    for rows, quota in zip(CORPORA, wanted, strict=True):
        counts = np.bincount(np.concatenate(found), minlength=57)[rows]
        assert counts.sum() == 12 * quota and counts.max() - counts.min() <= 1
    first = [set(epoch[np.isin(epoch, CORPORA[0])]) for epoch in found[:2]]
    assert not first[0] & first[1]  # 32 of 40 rows: none twice


def test_two_corpora_with_weights_are_mixed():
    mixed = BatchSampler(CORPORA[:2], batch_size=50, seed=0, weights=[1, 4])
    assert [int(np.isin(mixed.batch(epoch), CORPORA[0]).sum()) for epoch in range(3)] == [10] * 3


def test_a_mixed_batch_depends_on_seed_and_step_alone():
    settings = {"batch_size": 10, "weights": [1, 0.5, 2]}
    one, other = BatchSampler(CORPORA, seed=4, **settings), BatchSampler(CORPORA, seed=4, **settings)
    forward = [one.batch(step) for step in range(30)]
    assert all(np.array_equal(other.batch(step), forward[step]) for step in reversed(range(30)))
    assert not np.array_equal(BatchSampler(CORPORA, seed=5, **settings).batch(0), forward[0])


@pytest.mark.parametrize(
    "weights, total, expected", [([1, 1, 1], 10, [4, 3, 3]), ([2, 1], 9, [6, 3]), ([1e-9, 1], 5, [0, 5])]
)
def test_quotas_are_by_largest_remainder(weights, total, expected):
    assert quotas(weights, total) == expected


def test_a_folder_without_reports_trains_only_where_views_are_compared(tmp_path, data):
    bare = write_folder(tmp_path / "bare", n=20)
    edit_rows(bare, findings=[None] * 20, impression=[None] * 20)
    both = Corpus.open([data.root, bare])
    with pytest.raises(UserError, match=r"bare: no image of the train split has findings or impression text"):
        training_rows(both)
    with_text, without = training_rows(both, textless=True)
    assert np.array_equal(with_text, training_rows(data)[0])
    assert np.array_equal(without, 40 + Corpus.open(bare).rows("train"))
    edit_rows(bare, split=["test"] * 20)
    with pytest.raises(UserError, match="bare has no images in split 'train'"):
        training_rows(Corpus.open([data.root, bare]), textless=True)
