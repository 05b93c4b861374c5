"""Prompts as people read them, and what a text encoder makes of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from imitate.data.corpus import Corpus
from imitate.data.languages import report_language
from imitate.errors import UserError
from imitate.inference.base import BaseEncoder
from imitate.inference.embeddings import embed_texts
from imitate.inference.known_words import encoder_language, unknown_words
from imitate.inference.label_texts import own_prompts
from imitate.inference.predictor import load
from imitate.inference.prompts import (
    Prompts,
    built_in_languages,
    built_in_prompts,
    distinct,
    expanded,
    known_side,
    matching,
    parse_prompts,
)
from imitate.inference.templates import TEMPLATES

ALIKE = 1 - 1e-5  # cosine of two sides that are the same to an encoder


class Checked(NamedTuple):
    """What an encoder makes of the prompts of a class."""

    unknown: tuple[str, ...]  # words
    cosine: float  # of the two sides, in the space in which they are compared with images
    fault: str  # why the class is excluded, or ""


def shown_prompts(
    model: str | None, folder: Path | None, arguments: Sequence[str], *, language: str | None, device: str
) -> Iterator[str]:
    """Lines of text. UserError at the end: a class of ``arguments`` cannot be asked of the model."""
    predictor = load(model, device=device) if model else None
    data = Corpus.open(folder) if folder else None
    encoder = predictor.encoder.to(predictor.device) if predictor else None
    text = predictor.text if predictor else None
    wordings = parse_prompts(arguments)
    among = built_in_languages() if wordings is None else TEMPLATES
    spoken = language or encoder_language(text, among, reports=report_language(data) if data else None)
    if wordings is not None:
        every = {name: expanded(name, each, spoken) for name, each in wordings.items()}
    elif data and data.classes:
        every = matching(data.classes, built_in_prompts(spoken, own_prompts(data)))
        yield from (f"{name}\n  excluded: no prompts" for name in data.classes if name not in every)
    else:
        every = distinct(built_in_prompts(spoken))
    faulty = []
    for name, prompts in every.items():
        yield name
        yield from (f"  + {each}" for each in prompts.positive)
        yield from (f"  - {each}" for each in prompts.negative)
        if encoder is not None and predictor is not None:
            found = check(prompts, encoder, predictor.device, built_in=wordings is None)
            if found.unknown:
                yield f"  unknown words: {', '.join(found.unknown)}"
            yield f"  cosine of the two sides: {found.cosine:.3f}"
            if found.fault:
                faulty.append(name)
                yield f"  excluded: {found.fault}"
    if wordings is not None and faulty:
        raise UserError(f"{', '.join(faulty)}: skipped for the reasons above: use words of the reports")


def check(prompts: Prompts, encoder: BaseEncoder, device: str, *, built_in: bool) -> Checked:
    """The prompts of one class. The encoder must have text, and be on the device."""
    assert encoder.text is not None
    sides = [known_side(side, encoder.text, built_in=built_in) for side in (prompts.positive, prompts.negative)]
    given = (prompts.positive, prompts.negative)
    positive, negative = [
        embed_texts(encoder, list(known or side), device).mean(0) for known, side in zip(sides, given, strict=True)
    ]
    cosine = float(positive @ negative / max(np.linalg.norm(positive) * np.linalg.norm(negative), 1e-8))
    unknown = unknown_words((*prompts.positive, *prompts.negative), encoder.text)
    fault = ""
    if not all(sides):
        lacking = [sign for sign, known in zip(("with", "without"), sides, strict=True) if not known]
        fault = f"no sentence {' and none '.join(lacking)} the finding is known"
    elif cosine > ALIKE or not np.isfinite(cosine):
        fault = "the text encoder does not distinguish both sides, so every image would get 0.5"
    return Checked(tuple(unknown), cosine, fault)
