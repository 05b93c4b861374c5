import unicodedata

import pytest

from imitate.data.words import bare, folded, is_nobody, is_nothing, plain_number


@pytest.mark.parametrize(
    "word", ["", " ", "NULL", "None", "nan", "N/A", "<NA>", r"\N", "-", "___", "NaT", "#N/A", "(null)", "n/a."]
)
def test_words_for_nothing(word: str) -> None:
    assert is_nothing(word) and is_nobody(word)


def test_words_for_something() -> None:
    assert not any(map(is_nothing, ("No acute disease.", "0", "Unknown.", "nil acute", "无")))
    assert is_nobody("Unknown") and is_nobody(" UNBEKANNT ") and not is_nobody("P1")


def test_words_are_compared_without_case_and_accents() -> None:
    for one, other in (
        ("Größe", "GRÖSSE"),
        ("Résultats ", "resultats"),
        ("İZLENİM", "izlenim"),
        ("SONUÇLARI", "Sonuçları"),
    ):
        for form in ("NFC", "NFD"):
            assert folded(unicodedata.normalize(form, one)) == folded(other)
    assert bare("éıİ") == "eiI" and bare("検査") == "検査"


def test_numbers_in_several_spellings() -> None:
    assert {plain_number(each) for each in ("7", "007", "7.0", "7,00")} == {"7"}
    assert [plain_number(each) for each in ("0", "000", "1.5", "P007", "7.0a")] == ["0", "0", "1.5", "P007", "7.0a"]
