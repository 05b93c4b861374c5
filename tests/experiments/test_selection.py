"""Tables to select from."""

import numpy as np

from selection import Column, table, temperatures
from study import Cell

COLUMNS = [Column("recall", "retrieval"), Column("probe at 10%", "probe", 0.1)]
VALUES = {
    Cell("CLIP", "retrieval"): np.array([0.1, 0.2, 0.3]),
    Cell("CLIP", "probe", 0.1): np.array([0.8, 0.8, 0.8]),
    Cell("spatial all levels report", "retrieval"): np.array([0.5]),
    Cell("CLIP at 0.05", "retrieval"): np.array([0.4, 0.4]),
    Cell("CLIP learned", "retrieval"): np.array([0.25, 0.35]),
}


def test_a_line_has_means_and_deviations_and_no_other_temperatures():
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table(VALUES, COLUMNS).splitlines()]
    assert lines[0] == ["", "recall", "probe at 10%"]
    assert lines[2:] == [["CLIP", "20.0 ± 10.0", "80.0 ± 0.0"], ["spatial all levels report", "50.0", ""]]


def test_temperatures_stand_side_by_side_and_the_best_of_several_is_bold():
    written = temperatures(VALUES, {"CLIP": ("CLIP", "0.1")}, COLUMNS).splitlines()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in written]
    assert lines[0] == ["", "0.05", "0.07", "0.1", "0.15", "0.2", "learned"]
    assert lines[2] == ["CLIP, recall", "**40.0 ± 0.0**", "", "20.0 ± 10.0", "", "", "30.0 ± 7.1"]
    assert lines[3] == ["CLIP, probe at 10%", "", "", "80.0 ± 0.0", "", "", ""]
