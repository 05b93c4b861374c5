"""The languages that need no configuration, and which of them a text is in."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from imitate.data.stacked import by_piece
from imitate.names import REPORT, SECTIONS

if TYPE_CHECKING:
    from imitate.data.corpus import Corpus

LANGUAGES: dict[str, str] = {"en": "English", "de": "German", "es": "Spanish", "fr": "French"}
_FREQUENT = {  # in reports of one language, and in no other
    "en": "the is are and of with there has have been or to at this which within without was from",
    "de": """der die das den dem ist sind und mit im am vom zum zur kein keine keinen nicht ohne bei auf eine einer sich
        auch als bis von""",
    "es": "el los las del con sin y por para se ni una como hay observa está e al ambos",
    "fr": "le les du et avec sans au aux pas sur une dans ou par il est d l ce cette deux",
}
FUNCTION_WORDS = {language: frozenset(words.split()) for language, words in _FREQUENT.items()}
READ = 200  # reports by which the language of a folder is told
FEWEST, SHARE = 5, 0.6  # function words that it takes, and how many of them must be of one language

_WORD = re.compile(r"[^\W\d_]+")


def guess_language(texts: Iterable[str]) -> str | None:
    """The language of these texts by their function words; None where they are of another one, or too few."""
    words = Counter(word.lower() for text in texts for word in _WORD.findall(text))
    counts = {language: sum(words[word] for word in known) for language, known in FUNCTION_WORDS.items()}
    best = max(counts, key=lambda language: counts[language])
    return best if counts[best] >= max(FEWEST, SHARE * sum(counts.values())) else None


def report_language(data: "Corpus") -> str | None:
    """The code (ISO 639-1) that most reports of a corpus have, else that of one of LANGUAGES which they are in."""
    if not {f"has_{SECTIONS[0]}", SECTIONS[0]} & set(data.table.columns):  # made in memory, of labels alone
        return None
    written = np.flatnonzero(data.written(SECTIONS[0]) | data.written(SECTIONS[1]))
    rows = written[np.linspace(0, len(written) - 1, min(READ, len(written)), dtype=np.int64)]
    recorded = Counter(each for each in _recorded(data, rows) if each)
    if recorded:
        return recorded.most_common(1)[0][0]
    return guess_language(text for text in data.text(REPORT, rows) if isinstance(text, str))


def _recorded(data: "Corpus", rows: np.ndarray) -> list[str | None]:
    """The language of each of these rows; nothing where the folder does not say it."""
    if data.parts:
        ends = np.cumsum([len(part) for part in data.parts], dtype=np.int64)
        pieces = by_piece(rows, ends)
        return [each for number, _, local in pieces for each in _recorded(data.parts[number], local)]
    if data.columns:
        return data.columns.take("language", rows).to_pylist() if data.columns.holds("language") else []
    return data.table["language"].iloc[rows].to_list() if "language" in data.table else []
