import numpy as np
import pytest

from imitate.data.annotations import runs_mask
from imitate.data.coco import pack_counts, to_runs, unpack_counts


@pytest.mark.parametrize(
    ("text", "counts"),
    [  # written by COCO's own tools
        ("7330:N", [7, 3, 3, 3, 13, 1]),
        (r"\kR7Pb1`f0000TamP6", [232300, 1600, 720, 1600, 720, 1600, 6322420]),
        ("06", [0, 6]),
    ],
)
def test_packed_run_lengths_are_those_of_coco_s_tools(text: str, counts: list[int]) -> None:
    assert unpack_counts(text) == counts
    assert pack_counts(counts) == text


def test_the_runs_go_down_the_columns() -> None:
    mask = np.zeros((6, 5), bool)
    mask[1:4, 1:3], mask[5, 4] = True, True
    runs = to_runs(unpack_counts("7330:N"), pixels=30)
    np.testing.assert_array_equal(runs_mask(5, 6, runs=[runs], frame=(5, 6)), mask)
    assert to_runs([30], pixels=30) == "" == to_runs([30, 0], pixels=30)


@pytest.mark.parametrize("text", ["\x00", "P", "7330:n\x7f", "~" * 20, "O", "é"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="packed text"):
        unpack_counts(text)


def test_runs_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="another size"):
        to_runs([7, 3], pixels=30)
