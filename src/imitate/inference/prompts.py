"""What is asked of an image, in words that the text encoder can read."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from imitate.config import Config, read_yaml, validate
from imitate.data.languages import LANGUAGES
from imitate.data.words import folded
from imitate.errors import Lacking, UserError
from imitate.inference.known_words import (
    Enough,
    all_content,
    any_content,
    check_texts,
    encoder_language,
    is_fitted,
    remarks,
    words_of,
)
from imitate.inference.templates import TEMPLATES, sentences

if TYPE_CHECKING:
    from imitate.models.types import TextEncoder

BUILT_IN = Path(__file__).parent / "prompt_files"  # English; those of another language in a folder of its code


class Prompts(Config):
    """Sentences that a report has with a finding, and without."""

    positive: tuple[str, ...] = Field(min_length=1)
    negative: tuple[str, ...] = Field(min_length=1)


Wording = str | Prompts | Mapping[str, str | Sequence[str]]
"""A phrase such as ``pleural effusion``, or sentences: {"positive": [...], "negative": [...]}."""


def choose_prompts(
    wordings: Mapping[str, Wording] | None, encoder: "TextEncoder", *, language: str | None = None
) -> dict[str, Prompts]:
    """Each class's prompts, less those of which the encoder knows no word; None: the built-in ones, less those of which
    it does not know every word that carries meaning.

    Built-in prompts, and the sentences around a phrase, are in ``language``, by default that of the encoder's words.
    UserError names an empty prompt, and a class of which nothing is left, or whose two sides are the same to the
    encoder; a built-in one is excluded instead.
    """
    if wordings is None:
        spoken = language or encoder_language(encoder, built_in_languages())
        chosen = known_prompts(distinct(built_in_prompts(spoken)), encoder)
    else:
        chosen = {name: _prompts(name, wording, encoder, language) for name, wording in wordings.items()}
    if not chosen and wordings is None:
        raise UserError(
            f"{encoder.name} knows the words of none of the built-in classes: give prompts in the words of the reports"
        )
    if not chosen:
        raise UserError("no classes are given: give prompts such as {'Effusion': 'pleural effusion'}")
    return chosen


def built_in_prompts(language: str, own: str = "") -> dict[str, Prompts]:
    """The built-in prompts of a language, by class; those of the file ``own`` of a source come first.

    UserError: there are none in this language.
    """
    if language not in built_in_languages():
        named = LANGUAGES.get(language, language)
        raise Lacking(
            f"there are no built-in prompts in {named}: give a YAML file as --prompts FILE, or another --language"
        )
    folder = BUILT_IN if language == "en" else BUILT_IN / language
    name: Callable[[str], str] = plain if language == "en" else str
    found: dict[str, Prompts] = {}
    for file in [folder / f"{own}.yaml", folder / "findings.yaml"]:
        if file.is_file():
            found = {**read_prompts(file, name=name), **found}
    return found


def built_in_languages() -> list[str]:
    """The codes of those that have prompts for common classes."""
    return ["en", *sorted(path.parent.name for path in BUILT_IN.glob("*/findings.yaml"))]


def matching(labels: Iterable[str], prompts: Mapping[str, Prompts]) -> dict[str, Prompts]:
    """The prompts of those labels that have any; case, punctuation and accents aside."""
    keys = {_key(name): each for name, each in prompts.items()}
    return {label: keys[_key(label)] for label in labels if _key(label) in keys}


def known_prompts(every: Mapping[str, Prompts], encoder: "TextEncoder", *, built_in: bool = True) -> dict[str, Prompts]:
    """What the encoder can express, and a warning that names the other classes.

    Of a built-in prompt it must know every word that carries meaning, of others one such word. A class is excluded
    where a side has no such prompt, or where both sides are the same to the encoder.
    """
    enough = all_content if built_in else any_content
    chosen = {name: known for name, each in every.items() if (known := _known(each, encoder, enough))}
    chosen = {name: each for name, each in chosen.items() if not _alike(each, encoder)}
    if missing := sorted(every.keys() - chosen.keys()):
        remarks.warning("%s does not know the words for: %s", encoder.name, ", ".join(missing))
    return chosen


def parse_prompts(arguments: Sequence[str]) -> dict[str, Wording] | None:
    """``Class=positive|negative`` or ``Class=phrase`` each, or the path of a YAML file; None of nothing."""
    if not arguments:
        return None
    if len(arguments) == 1 and "=" not in arguments[0]:
        return _read(Path(arguments[0]))
    parsed: dict[str, Wording] = {}
    for argument in arguments:
        name, equals, wording = argument.partition("=")
        if not equals or not name.strip():
            raise UserError(
                f"--prompts {argument!r}: write 'Class=positive|negative', 'Class=phrase', or one YAML file"
            )
        if any(_key(name) == _key(other) for other in parsed):
            raise UserError(f"--prompts {argument!r}: the class {name.strip()} is given twice: keep one")
        positive, bar, negative = wording.partition("|")
        parsed[name.strip()] = {"positive": positive, "negative": negative} if bar else wording
    return parsed


def _read(path: Path) -> dict[str, Wording]:
    if not path.is_file():
        raise UserError(f"no prompts at {path}: give a YAML file of class: phrase, or 'Class=positive|negative'")
    values = read_yaml(path, holds="a phrase, or positive and negative prompts, for each class")
    if not all(isinstance(each, str | dict) for each in values.values()):
        raise UserError(f"{path} must map each class to a phrase, or to positive and negative prompts")
    return {str(name): each if isinstance(each, str) else _listed(str(name), each) for name, each in values.items()}


def _listed(name: str, wording: Mapping[Any, Any]) -> Prompts:
    sides = {str(side): [texts] if isinstance(texts, str) else texts for side, texts in wording.items()}
    return validate(Prompts, sides, where=f"prompts of {name}")


def _prompts(name: str, wording: Wording, encoder: "TextEncoder", language: str | None) -> Prompts:
    if isinstance(wording, str):
        check_texts([wording], encoder)  # before the template's own words hide that it says nothing
        language = language or encoder_language(encoder, TEMPLATES)
        return _distinguished(name, expanded(name, wording, language), encoder)
    known = _known(expanded(name, wording, ""), encoder, any_content)
    if known is None:
        raise UserError(f"prompts of {name}: the text encoder {encoder.name} knows no word of one side: use others")
    check_texts((*known.positive, *known.negative), encoder)
    return _distinguished(name, known, encoder)


def expanded(name: str, wording: Wording, language: str) -> Prompts:
    """Sentences; those around a phrase are in ``language``. UserError: one is empty, or there are none around it."""
    if isinstance(wording, str):
        present, absent = sentences(name, wording, language)
        return Prompts(positive=present, negative=absent)
    found = wording if isinstance(wording, Prompts) else _listed(name, wording)
    if not all(text.strip() for text in (*found.positive, *found.negative)):
        raise UserError(f"prompts of {name}: one is empty: write a sentence or remove it")
    return found


def _distinguished(name: str, prompts: Prompts, encoder: "TextEncoder") -> Prompts:
    if _alike(prompts, encoder):
        raise UserError(
            f"prompts of {name}: the text encoder {encoder.name} does not distinguish both sides, so every image would "
            f"get 0.5: give sentences with and without it in the words of the reports, '{name}=...|...'"
        )
    return prompts


def _alike(prompts: Prompts, encoder: "TextEncoder") -> bool:
    """Whether the sides differ in no word that the encoder knows."""
    if set(prompts.positive) == set(prompts.negative):
        return True
    if not is_fitted(encoder):  # can spell any word
        return False
    positive, negative = (np.asarray(encoder.encode([*side])).mean(0) for side in (prompts.positive, prompts.negative))
    return np.allclose(positive, negative, rtol=1e-4, atol=1e-6)


def distinct(prompts: dict[str, Prompts]) -> dict[str, Prompts]:
    """Without other names of the same prompts: the first in the file stays."""
    return {name: each for name, each in prompts.items() if each not in [*prompts.values()][: [*prompts].index(name)]}


def _known(prompts: Prompts, encoder: "TextEncoder", enough: Enough) -> Prompts | None:
    """Without the prompts of which the encoder knows too little; None where a side is left without any."""
    positive, negative = (_known_side(side, encoder, enough) for side in (prompts.positive, prompts.negative))
    return Prompts(positive=positive, negative=negative) if positive and negative else None


def known_side(side: Iterable[str], encoder: "TextEncoder", *, built_in: bool) -> tuple[str, ...]:
    """The prompts of a side of which the encoder knows enough, as ``known_prompts`` counts it."""
    return _known_side(side, encoder, all_content if built_in else any_content)


def _known_side(side: Iterable[str], encoder: "TextEncoder", enough: Enough) -> tuple[str, ...]:
    return tuple(text for text in side if enough(words_of(text, encoder)))


def read_prompts(path: Path, *, name: Callable[[str], str] = lambda label: plain(label)) -> dict[str, Prompts]:
    """Prompts by ``name`` of the class, by default its plain form."""
    if not path.is_file():
        raise UserError(f"no prompts at {path}: give a YAML file of class: {{positive: [...], negative: [...]}}")
    values = read_yaml(path, holds="positive and negative prompts for each class")
    if not all(isinstance(value, dict) for value in values.values()):
        raise UserError(f"{path} must map each class to positive and negative prompts")
    prompts = {str(label): validate(Prompts, value, where=f"{path}: {label}") for label, value in values.items()}
    for label, each in prompts.items():
        if not all(text.strip() for text in (*each.positive, *each.negative)):
            raise UserError(f"{path}: {label} has an empty prompt: write a sentence or remove it")
    named: dict[str, str] = {}
    for label in prompts:
        if (other := named.setdefault(_key(label), label)) != label:
            raise UserError(f"{path}: {other} and {label} are the same class: remove one")
    return {name(label): each for label, each in prompts.items()}


def plain(label: str) -> str:
    """Case and punctuation aside: Pleural_Thickening is pleural thickening."""
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFC", label)).strip().lower()


def _key(label: str) -> str:
    """What two spellings of a class have in common."""
    return folded(plain(label))
