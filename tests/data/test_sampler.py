from pathlib import Path

import numpy as np
import pytest
from folders import write_folder

from imitate.data import sampler
from imitate.data.corpus import Corpus
from imitate.data.sampler import Order, Reader, read_ahead, training_rows, warm_up
from imitate.data.text_cache import TextCache, text_embeddings
from imitate.errors import UserError
from imitate.models.text import fit_or_load


@pytest.fixture
def data(tmp_path):
    return Corpus.open(write_folder(tmp_path / "data"))


def test_every_epoch_is_another_permutation_of_all_rows():
    order = Order(np.arange(40) * 2, batch_size=10, seed=1)
    epochs = [np.concatenate([order.batch(e * 4 + i) for i in range(4)]) for e in range(3)]
    assert all(sorted(epoch) == list(range(0, 80, 2)) for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    again = Order(np.arange(40) * 2, batch_size=10, seed=1)
    assert np.array_equal(again.batch(9), order.batch(9))
    assert not np.array_equal(Order(np.arange(40) * 2, batch_size=10, seed=2).batch(0), order.batch(0))


def test_too_few_samples_for_a_batch_are_told():
    with pytest.raises(UserError, match="9 training samples are fewer than batch_size 10"):
        Order(np.arange(9), batch_size=10, seed=0)


def test_training_rows_have_a_section_and_are_of_the_train_split(data):
    data.table.loc[3, ["findings", "impression"]] = None
    rows = training_rows(data)
    assert 3 not in rows and set(data.table["split"].iloc[rows]) == {"train"}


def test_reader_pairs_images_texts_and_flags_by_row(data):
    encoder = fit_or_load("lsa-8", ["left effusion normal", "right heart size", "lungs clear normal size"] * 4)
    texts = text_embeddings(data, TextCache(encoder))
    rows = np.array([12, 4, 22, 5])
    batch = Reader(data, texts)(rows)
    assert np.array_equal(batch["images"], data.images[rows])
    assert batch["has_findings"].tolist() == [True, False, False, True]
    for section in ("findings", "impression"):
        for i, row in enumerate(rows):
            text = data.table[section].iloc[row]
            expected = encoder.encode([text])[0].half().float() if isinstance(text, str) else 0
            assert (batch[section][i] - expected).abs().max() < 1e-3


def test_branches_read_the_texts_that_they_learn_from(data):
    names = ("findings", "impression", "report")
    texts = {name: np.full((len(data), 1), i, np.float16) for i, name in enumerate(names)}
    rows = np.arange(len(data))
    swapped, whole = (Reader(data, texts, branches=branches)(rows) for branches in ("swapped", "report"))
    assert (swapped["findings"] == 1).all() and (swapped["impression"] == 0).all()
    assert np.array_equal(swapped["has_findings"], data.has("impression"))
    assert (whole["findings"] == 2).all() and (whole["impression"] == 2).all()
    assert np.array_equal(whole["has_findings"], data.has("findings") | data.has("impression"))


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_reading_ahead_keeps_the_order_and_loses_nothing(data, depth):
    texts = {section: np.zeros((len(data), 4), np.float16) for section in ("findings", "impression")}
    batches = [np.array([i, i + 1]) for i in range(7)]
    found = [batch["images"].numpy() for batch in read_ahead(Reader(data, texts), iter(batches), depth=depth)]
    assert all(np.array_equal(a, data.images[b]) for a, b in zip(found, batches, strict=True))


def test_warming_up_reads_the_whole_file_unless_memory_is_too_small(tmp_path, monkeypatch):
    path = tmp_path / "images.npy"
    path.write_bytes(bytes(3 * 2**24 + 5))

    def bytes_read() -> int:
        (line,) = (line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("rchar"))
        return int(line.split()[1])

    before = bytes_read()
    warm_up(path).join()
    assert bytes_read() - before >= path.stat().st_size
    monkeypatch.setattr(sampler.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**14}.__getitem__)
    assert warm_up(path) is None
