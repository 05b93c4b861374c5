"""Where sentences end."""

import numpy as np
import pandas as pd
import pytest

from imitate.data.sentences import split_sentences
from imitate.data.text_cache import SentenceRows, TextCache


@pytest.mark.parametrize(
    "text, sentences",
    [
        ("The heart is normal. No effusion.", ["The heart is normal.", "No effusion."]),
        ("Nodule of 1.5 cm. 2 new lines.", ["Nodule of 1.5 cm.", "2 new lines."]),
        ("Discussed with Dr. Smith at 5 p.m. Lungs clear", ["Discussed with Dr. Smith at 5 p.m. Lungs clear"]),
        ("1. No pneumonia.\n2. Stable heart.", ["No pneumonia.", "Stable heart."]),
        ("- No pneumonia\n- Stable heart", ["No pneumonia", "Stable heart"]),
        ("No change vs. prior. Clear?  Yes!", ["No change vs. prior.", "Clear?", "Yes!"]),
        ("wrapped\nover lines. Then more.", ["wrapped over lines.", "Then more."]),
        ("A paragraph\n\nanother one", ["A paragraph", "another one"]),
        ("心影不大。肺野清晰。", ["心影不大。", "肺野清晰。"]),
        ("Sin cambios. Índice normal.", ["Sin cambios.", "Índice normal."]),
        ("no full stop", ["no full stop"]),
        (" ... ", []),
        ("", []),
    ],
)
def test_sentences(text, sentences):
    assert split_sentences(text) == sentences


class Lengths:
    name, width, identity = "lengths-1", 1, "lengths"

    def encode(self, texts):
        import torch

        return torch.tensor([[float(len(text))] for text in texts])


def test_some_sentences_of_each_row_are_drawn_and_averaged():
    texts = pd.Series(["a", "bb", "ccc", "dddd", "eeeeee"], dtype="str")
    cache = TextCache(Lengths())
    cache.fill(texts)
    one, two, all_ = (SentenceRows(cache.rows(texts), np.array([3, 0, 2]), draw) for draw in (1, 2, 9))
    rows = np.array([2, 0, 1, 0])
    assert all_.drawn(rows, (0, 0)).ravel().tolist() == [5, 2, 0, 2]
    steps = {tuple(one.drawn(rows, (0, step)).ravel().tolist()) for step in range(40)}
    assert {each[0] for each in steps} == {4, 6} and {each[1] for each in steps} == {1, 2, 3}
    assert all(each[1] == each[3] and each[2] == 0 for each in steps)
    assert {each for step in range(40) for each in two.drawn(rows[1:2], (0, step)).ravel()} == {1.5, 2, 2.5}
    again = one.drawn(rows[::-1], (0, 7))[::-1]
    assert np.array_equal(again, one.drawn(rows, (0, 7))), "a row's sentences do not depend on its neighbours"
    different = [one.drawn(rows, (seed, 7)).tolist() for seed in range(20)]
    assert any(each != different[0] for each in different)
