"""Splitting a report takes time in proportion to its length, whatever it holds."""

import time
from collections.abc import Callable

import pytest

from imitate.data.reports import parse_sections
from imitate.data.section_labels import read_headers
from imitate.data.sections import split_by_headers

LIMIT = 20  # CPU seconds; quadratic time would be many minutes


def seconds(split: Callable[[str], object], text: str) -> float:
    start = time.process_time()
    split(text)
    return time.process_time() - start


@pytest.mark.parametrize("piece", ["\n ", "A", "\n A", "\n FINDINGS: ", "\n \n", " ", ":", "\n FINDINGS:\n", "1"])
def test_of_the_published_parser(piece: str) -> None:
    text = "x\n " + piece * (200_000 // len(piece))
    assert seconds(parse_sections, text) < LIMIT


@pytest.mark.parametrize(
    "piece",
    [
        "\n ",
        "A",
        "\n A",
        "\n FINDINGS: ",
        "\n \n",
        " ",
        ":",
        "1. ",
        "FINDINGS ",
        "# ",
        "findings (",
        "signed by ",
        "<b",
        "\\n",
        "Dr. A ",
        "A, M.D. ",
        "This report was ",
        "signed: ",
        "Patient: ",
    ],
)
def test_of_house_styles(piece: str) -> None:
    text, headers = "x\n " + piece * (200_000 // len(piece)), read_headers()
    assert seconds(lambda text: split_by_headers(text, headers), text) < LIMIT


@pytest.mark.parametrize("mark", "#>*_•-")
def test_of_rules_drawn_with_marks(mark: str) -> None:
    rule = mark * 60
    text = f"{rule} FINAL REPORT {rule} FINDINGS: Clear lungs. {rule}x IMPRESSION: Normal."
    found = split_by_headers(text, read_headers())  # trying every way to group the marks would take years
    assert (found.findings or "").startswith("Clear lungs.") and found.impression == "Normal."
