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
_FREQUENT = {  # in reports; those of further languages, so that these are not taken for one of ours
    "en": "the is are and of with there has have been or to at this which within without was from no",
    "de": """der die das den dem des ist sind und mit im am in kein keine keinen nicht ohne bei auf eine einer sich auch
        von vom zum als bis""",
    "es": "el la los las de del con sin y por para se no ni una como hay en está al",
    "fr": "le la les de du des et avec sans au aux pas sur une dans ou par il est en d l",
    "nl": "de het een is zijn en van met geen niet in op bij ook wordt aan te of",
    "pt": "o a os as do da dos das com sem e de em não há por para no na se ao",
    "it": "il la lo gli e di del della con senza non si in per sono alla",
}
FUNCTION_WORDS = {language: frozenset(words.split()) for language, words in _FREQUENT.items()}
READ = 200  # reports from which the language of a folder is recognised
FEWEST, LEAD = 5, 1.2  # function words that it takes, and how many times more than of any other language

_WORD = re.compile(r"[^\W\d_]+")


def guess_language(texts: Iterable[str]) -> str | None:
    """One of LANGUAGES by the function words of these texts; None where they are in another one, or too few."""
    words = Counter(word.lower() for text in texts for word in _WORD.findall(text))
    counts = Counter({name: sum(words[word] for word in known) for name, known in FUNCTION_WORDS.items()})
    (best, most), (_, second) = counts.most_common(2)
    return best if best in LANGUAGES and most >= max(FEWEST, LEAD * second) else None


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
