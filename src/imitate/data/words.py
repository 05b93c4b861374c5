"""How the words of tables, headers and ids are compared, and what stands for nothing."""

import os
import re
import unicodedata
from functools import lru_cache

NOTHING = frozenset(
    {"", "nan", "none", "null", "nil", "na", "n/a", "<na>", "nat", "\\n", "#n/a", "not available"}
    | {"(null)", "[null]", "<null>", "(blank)"}
    | {"#ref!", "#value!", "#name?", "#div/0!", "#null!", "#num!", "#bezug!", "#wert!", "#valor!", "#valeur!"}
)
NOBODY = frozenset(
    {"unknown", "anonymous", "anonymized", "anonymised", "unbekannt", "anonym", "inconnu", "desconocido"}
)
_NUMBER = re.compile(r"0*(\d+)(?:[.,]0+)?")


def bare(text: str) -> str:
    """The text without accents, and with i for the Turkish letter without a dot; each character keeps its position."""
    return text if text.isascii() else "".join(each if each.isascii() else _base(each) for each in text)


def folded(text: str) -> str:
    """A word as it is compared: without case, accents and extra spaces."""
    return " ".join(bare(unicodedata.normalize("NFC", text)).casefold().split())


def is_nothing(text: str) -> bool:
    """Whether it is a database's word for nothing, or marks alone such as ___."""
    word = text.casefold().strip().strip(" .")
    return word in NOTHING or not any(character.isalnum() for character in word)


def is_nobody(patient: str) -> bool:
    """Whether an id names nobody: it would make one patient of everybody without an id."""
    return is_nothing(patient) or patient.casefold().strip() in NOBODY


def plain_number(name: str) -> str:
    """7 for 007 and for 7.0, which spreadsheets and databases make of an id; other ids as they are."""
    number = _NUMBER.fullmatch(name)
    return number[1] if number else name


def shown(name: str) -> str:
    r"""A file's name as text: bytes that are not UTF-8 as ``\xf6``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def cell(text: str) -> str:
    """For a CSV file: a text that a spreadsheet would compute as a formula begins with an apostrophe."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


@lru_cache(2**14)
def _base(character: str) -> str:
    return "i" if character == "ı" else unicodedata.normalize("NFD", character)[0]
