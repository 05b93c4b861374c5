"""Which words of a text an encoder knows, and the language in which to ask it."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from imitate.data.languages import FUNCTION_WORDS
from imitate.errors import UserError
from imitate.inference.templates import TEMPLATES
from imitate.models.lengths import number_cut, warn_of_cut

if TYPE_CHECKING:
    from imitate.models.types import TextEncoder

remarks = logging.getLogger(__name__)
"""Warnings about words of prompts, here and in prompts.py; the viewer shows them to whoever wrote the prompts."""
SHOWN = 8  # words of a warning
STOP_WORDS = ENGLISH_STOP_WORDS.union(*FUNCTION_WORDS.values())
"""What carries no meaning, in any of the languages."""
HALF = 0.5  # of the words of a language's templates


def check_texts(texts: Iterable[str], encoder: "TextEncoder") -> None:
    """UserError: a blank text, or one without a known word. Words that are not known are warned of, once each, and ends
    of texts that are too long for the encoder.
    """
    texts = list(texts)
    unknown: dict[str, None] = {}
    for number, text in enumerate(texts, 1):
        if not text.strip():
            raise UserError(f"text {number} is empty: write what a report says, such as 'small left pleural effusion'")
        words = words_of(text, encoder)
        if not any(words.values()):
            raise UserError(
                f"the text encoder {encoder.name} knows no word of {text[:60]!r}: "
                "use words of the reports that it was fitted on"
            )
        unknown |= {word: None for word, is_known in words.items() if not is_known}
    if unknown:
        more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
        remarks.warning(
            "the text encoder %s ignores words that it does not know: %s%s",
            encoder.name,
            ", ".join([*unknown][:SHOWN]),
            more,
        )
    warn_of_cut(remarks, encoder, number_cut(texts, encoder), len(texts))


def unread_texts(texts: Iterable[str], encoder: "TextEncoder") -> list[str]:
    """Those of which the encoder knows no word."""
    return [text for text in texts if not any(words_of(text, encoder).values())]


def unknown_words(texts: Iterable[str], encoder: "TextEncoder") -> list[str]:
    """Those that say nothing to the encoder, once each."""
    words = {word: known for text in texts for word, known in words_of(text, encoder).items()}
    return [word for word, known in words.items() if not known]


def encoder_language(encoder: "TextEncoder | None", among: Iterable[str], *, reports: str | None = None) -> str:
    """The language in which to ask a model, whose images may come with ``reports`` in another one.

    Published encoders are asked in English. A fitted encoder is asked in the language of the templates whose words it
    knows best, if it knows half of them or more. Any other encoder can spell every word, so the reports decide.
    """
    if encoder is None or not is_fitted(encoder):
        return getattr(encoder, "language", None) or reports or "en"
    known = {}
    for language in among:
        words = words_of(" ".join(sentence.format("") for side in TEMPLATES[language] for sentence in side), encoder)
        known[language] = sum(words.values()) / len(words)
    best = max(known, key=lambda each: (known[each], each == reports))  # of equal ones the first, English
    return best if reports is None or known[best] >= HALF else reports


Enough = Callable[[Mapping[str, bool]], bool]
"""Of the words of a sentence, and whether each is known."""


def any_content(words: Mapping[str, bool]) -> bool:
    """Of sentences in any language, so that a word that the encoder lacks may be one that matters little."""
    return any(known for word, known in words.items() if word not in STOP_WORDS)


def all_content(words: Mapping[str, bool]) -> bool:
    """A stray "in" says nothing: all words that carry meaning."""
    content = [known for word, known in words.items() if word not in STOP_WORDS]
    return bool(content) and all(content)


def words_of(text: str, encoder: "TextEncoder") -> dict[str, bool]:
    """A word-piece encoder can spell any word."""
    return dict(encoder.words(text)) if is_fitted(encoder) else {text: True}  # type: ignore[attr-defined]


def is_fitted(encoder: "TextEncoder") -> bool:
    """Whether it knows the words of the reports that it was fitted on."""
    return hasattr(encoder, "words")
