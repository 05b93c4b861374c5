"""Sentences in place of the reports that a corpus of labels does not have."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from imitate.data.corpus import Corpus
from imitate.inference.prompts import BUILT_IN, Prompts, plain, read_prompts

NORMAL = ("no finding", "normal")
"""Classes that say that there is nothing to see."""


def texts_of_labels(data: Corpus) -> pd.Series:
    """For each image of one folder the first positive prompt of each positive class, in the order of the classes.

    Where no class is positive, it is the sentence for a normal image if *every* class is known to be absent; a folder
    of one class says no more than that this one is absent. An unknown or uncertain label (NaN) says nothing, so an
    image that has such labels and no positive one has no text: silence of a label is no normal radiograph.
    """
    if not data.classes:
        return pd.Series([None] * len(data), dtype=object)
    prompts = _prompts(data)
    positive = [_sentence(name, prompts) for name in data.classes]
    own = prompts.get(plain(data.classes[0])) if len(data.classes) == 1 else None
    absent = own.negative[0] if own else prompts[NORMAL[0]].positive[0]
    normal = np.array([plain(name) in NORMAL for name in data.classes])
    texts: list[str | None] = []
    for row in data.labels:
        found = [sentence for sentence, label in zip(positive, row, strict=True) if label == 1]
        known = not np.isnan(row[~normal]).any()
        texts.append(" ".join(dict.fromkeys(found)) if found else absent if known else None)
    return pd.Series(texts, dtype=object)


def _prompts(data: Corpus) -> dict[str, Prompts]:
    """The built-in ones, those of the source's own file first."""
    own = BUILT_IN / f"{data.traits.get('prompts') or data.meta.get('source')}.yaml"
    return {**read_prompts(BUILT_IN / "findings.yaml"), **(read_prompts(own) if own.is_file() else {})}


def _sentence(name: str, prompts: Mapping[str, Prompts]) -> str:
    """A class without prompts is named."""
    return prompts[plain(name)].positive[0] if plain(name) in prompts else f"There is {plain(name)}."
