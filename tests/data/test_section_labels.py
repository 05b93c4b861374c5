"""The built-in headers."""

import os
import subprocess
import sys

import pytest

from imitate.data.section_labels import key

SHOW = "from imitate.data.section_labels import read_headers as r; h = r(None); print([*h.targets], h.pattern.pattern)"


@pytest.mark.parametrize(
    ("header", "compared"),
    [("**Beurteilung:** ", "beurteilung"), ("Técnica", "tecnica"), ("_Final impression_：", "final impression")],
)
def test_headers_are_compared_without_case_accents_and_marks(header: str, compared: str) -> None:
    assert key(header) == compared


def test_headers_have_the_same_order_in_every_process() -> None:
    """Sets of strings have another order in each: what is found must not depend on it."""
    found = {
        subprocess.run(
            [sys.executable, "-c", SHOW],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            encoding="utf-8",
        ).stdout
        for seed in "123"
    }
    assert len(found) == 1 and "impression" in found.pop()
