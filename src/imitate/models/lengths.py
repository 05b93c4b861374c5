"""Texts that are longer than a text encoder reads."""

import logging
from typing import Any


def number_cut(texts: list[str], encoder: Any) -> int:
    """How many have an end that the encoder ignores; 0 of one that reads texts of any length."""
    return len(encoder.cut(texts)) if hasattr(encoder, "cut") else 0


def warn_of_cut(log: logging.Logger, encoder: Any, cut: int, count: int) -> None:
    """``cut`` of so many texts have an end that is ignored."""
    if cut:
        said = "the text encoder %s reads at most %d word pieces: the end of %d of %d texts is ignored"
        log.warning(said, encoder.name, encoder.longest, cut, count)
