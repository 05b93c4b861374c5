"""Sex, age and other demographics in one spelling."""

from pathlib import Path

import pytest

from imitate.data.demographics import Values, counted, demographics, race_group, read_age, read_sex, with_header
from imitate.data.records import Record


@pytest.mark.parametrize(
    ("cell", "years", "kind"),
    [
        ("60", 60, "nnn"), ("060Y", 60, "nnnY"), ("60.0", 60, "nnn"), (61.0, 61, "nnn"), ("3M", 0.25, "nnnM"),
        ("010D", 0.0274, "nnnD"), ("2w", 0.0383, "nnnW"), ("6 months", 0.5, "nnnM"), ("40 years old", 40, "nnnY"),
        ("40-44", 42, "range"), ("90+", 90, "limit"), (">89", 89, "limit"), ("85 or more", 85, "limit"),
        ("414", None, "impossible"), ("238Y", None, "impossible"), ("-1", None, "impossible"), ("000Y", None, "zero"),
        ("0", None, "zero"), ("Y", None, "unreadable"), ("adult", None, "unreadable"), ("", None, "blank"),
        (None, None, "blank"), (float("nan"), None, "blank"), ("120", 120, "nnn"),
    ],
)  # fmt: skip
def test_ages_become_years(cell: object, years: float | None, kind: str) -> None:
    assert read_age(cell) == (years if years is None else pytest.approx(years), kind)


@pytest.mark.parametrize(
    ("cell", "sex", "kind"),
    [
        ("M", "M", "m"), ("male", "M", "male"), ("Female", "F", "female"), ("w", "F", "w"), ("O", "O", "o"),
        ("Unknown", "", "unknown"), (" ", "", "blank"), ("Jane Doe", "", "unreadable"), ("männlich", "M", "mannlich"),
    ],
)  # fmt: skip
def test_sexes_become_letters(cell: str, sex: str, kind: str) -> None:
    assert read_sex(cell) == (sex, kind)


def test_fields_of_a_record() -> None:
    found = demographics(sex="Male", age=None, race=" WHITE ", insurance="nan", scanner=None)

    assert found == {"sex": "M", "age": None, "extra": {"race": "WHITE"}, "originals": ("sex: male", "age: blank")}
    assert demographics(site="A") == {"extra": {"site": "A"}, "originals": ()}
    assert counted({"age: nnnY": 3, "sex: m": 1}) == {"age": {"nnnY": 3}, "sex": {"m": 1}}


@pytest.mark.parametrize(
    ("cells", "group"),
    [
        (["WHITE - RUSSIAN", "WHITE", "UNKNOWN"], "White"), (["BLACK/CAPE VERDEAN"], "Black"), (["WHITE", "OTHER"], ""),
        (["White or Caucasian, non-Hispanic"], "White"), (["Asian - Historical Conv"], "Asian"), (["PORTUGUESE"], "Other"),
        (["HISPANIC/LATINO - CUBAN"], "Hispanic"), (["UNABLE TO OBTAIN"], ""), ([None], ""),
        (["Race and Ethnicity Unknown"], ""),
    ],
)  # fmt: skip
def test_races_become_groups_where_all_records_agree(cells: list[str | None], group: str) -> None:
    assert race_group(cells) == group


def test_a_header_fills_what_the_tables_leave_blank() -> None:
    record = Record("a", Path("a.dcm"), "p", "s", sex="F", extra={"site": "A"}, projection="PA")
    header = {
        "PatientSex": "M",
        "PatientAge": "063Y",
        "InstitutionName": "B",
        "Manufacturer": "X",
        "ViewPosition": "AP",
    }

    filled = with_header(record, header)

    assert (filled.sex, filled.age, filled.scanner, filled.projection) == ("F", 63, "X", "PA")
    assert filled.extra == {"site": "A"}
    assert filled.originals == ("sex: m", "age: nnnY")
    assert with_header(record, None).originals == ("file: no DICOM",)


def test_values_are_counted_and_free_text_is_not_shown() -> None:
    values = Values()
    note = [[("note", f"text {number}"), ("race", "White")] for number in range(60)]
    values.add({"sex": ["F"] * 40 + [""] * 20, "age": [1.0] * 10 + [None] * 50, "scanner": [""] * 60, "extra": note})

    assert values.as_dict(60) == {
        "sex": {"F": 40, "missing": 20},
        "age": {"known": 10, "missing": 50},
        "note": {"(60 values)": 60},
        "race": {"White": 60},
    }
