"""Sentences around a phrase, with the finding and without it, in the languages whose section headers are built in."""

import re

from imitate.errors import UserError

TEMPLATES = {
    "en": (
        ("{}.", "There is {}.", "Findings are consistent with {}."),
        ("No {}.", "There is no {}.", "No evidence of {}."),
    ),
    "de": (
        ("{}.", "Es besteht {}.", "Befund vereinbar mit {}."),
        ("Kein {}.", "Keine {}.", "Kein Nachweis von {}."),
    ),
    "es": (
        ("{}.", "Se observa {}.", "Hallazgos compatibles con {}."),
        ("Sin {}.", "No se observa {}.", "No hay evidencia de {}."),
    ),
    "fr": (
        ("{}.", "Présence de {}.", "Aspect compatible avec {}."),
        ("Pas de {}.", "Absence de {}.", "Pas de signe de {}."),
    ),
}
ARTICLES = {"en": "an?", "de": "eine?[nmr]?|de[rmn]|die|das", "es": "una?|el|la|los|las", "fr": "une?|le|la|les|des|du"}


def sentences(name: str, phrase: str, language: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """With the finding, and without it; the phrase without its article. UserError: a language without templates."""
    if language not in TEMPLATES:
        raise UserError(f"no sentences in language {language!r} are built in: give both sides, '{name}=...|...'")
    bare = re.sub(rf"^(?:{ARTICLES[language]}) ", "", phrase.strip().rstrip("."), flags=re.IGNORECASE)
    present, absent = (tuple(each.format(bare) for each in side) for side in TEMPLATES[language])
    return present, absent
