"""Sentences in place of the reports that a corpus of labels does not have."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from imitate.data.corpus import Corpus
from imitate.data.languages import report_language
from imitate.inference.prompts import Prompts, built_in_languages, built_in_prompts, matching, plain
from imitate.inference.templates import TEMPLATES

NORMAL = "No Finding"
"""A class that says that there is nothing to see; others have the same prompts."""


def with_label_texts(data: Corpus) -> Corpus:
    """Sentences for the images without a report, in the language of the others."""
    language = report_language(data)
    return data.filled(lambda part: texts_of_labels(part, language))


def texts_of_labels(data: Corpus, language: str | None = None) -> pd.Series:
    """For each image of one folder the first positive prompt of each positive class, in the order of the classes.

    ``language`` is that of the prompts, where there are any in it; else they are English.

    Where no class is positive, it is the sentence for a normal image if *every* class is known to be absent; a folder
    of one class says no more than that this one is absent. An unknown or uncertain label (NaN) says nothing, so an
    image that has such labels and no positive one has no text: silence of a label is no normal radiograph.
    """
    if not data.classes:
        return pd.Series([None] * len(data), dtype=object)
    spoken = language if language in built_in_languages() else "en"
    every = built_in_prompts(spoken, own_prompts(data))
    prompts, nothing = matching(data.classes, every), matching([NORMAL], every)[NORMAL]
    positive = [_sentence(name, prompts, spoken) for name in data.classes]
    own = prompts.get(data.classes[0]) if len(data.classes) == 1 else None
    absent = own.negative[0] if own else nothing.positive[0]
    normal = np.array([prompts.get(name) == nothing or plain(name) == "normal" for name in data.classes])
    texts: list[str | None] = []
    for row in data.labels:
        found = [sentence for sentence, label in zip(positive, row, strict=True) if label == 1]
        known = not np.isnan(row[~normal]).any()
        texts.append(" ".join(dict.fromkeys(found)) if found else absent if known else None)
    return pd.Series(texts, dtype=object)


def own_prompts(data: Corpus) -> str:
    """The name of the file of prompts that a source has for its own classes."""
    return str((data.traits.get("prompts") if data.traits else data.meta.get("source")) or "")


def _sentence(name: str, prompts: Mapping[str, Prompts], language: str) -> str:
    """A class without prompts is named."""
    if name in prompts:
        return prompts[name].positive[0]
    return TEMPLATES[language][0][1].format(plain(name) if language == "en" else name)
