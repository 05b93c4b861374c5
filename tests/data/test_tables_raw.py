from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from imitate.data.records import Excluded, Record
from imitate.data.tables import column_values, find, is_below, is_there, present, require_filled, require_unique
from imitate.errors import UserError


def test_the_first_name_that_exists_is_found(tmp_path: Path) -> None:
    (tmp_path / "b.csv").touch()
    assert find(tmp_path, "a.csv", "b.csv") == tmp_path / "b.csv"
    with pytest.raises(UserError, match=r"has no c\.csv or d: --raw"):
        find(tmp_path, "c.csv", "d")


@pytest.mark.parametrize("cells", [[" 1", "0.0", "", None, "-1 "], [1.0, 0.0, np.nan, np.nan, -1.0]])
def test_text_and_numbers_read_alike(cells: list) -> None:
    values = column_values(pd.DataFrame({"Edema": cells}), "Edema", path=Path("t.csv"), allowed=(1, 0, -1))
    np.testing.assert_array_equal(values, [1, 0, np.nan, np.nan, -1])


def test_a_value_outside_the_known_ones_is_named() -> None:
    table = pd.DataFrame({"Edema": ["1", "2", "yes", "2"]})
    with pytest.raises(UserError, match=r"t\.csv: column 'Edema' holds '2' in 3 rows: expected 1, 0, -1 or blank"):
        column_values(table, "Edema", path=Path("t.csv"), allowed=(1, 0, -1))
    with pytest.raises(UserError, match="holds 'yes' in 1 rows: expected a number or blank"):
        column_values(table, "Edema", path=Path("t.csv"))


def test_blank_and_repeated_ids_are_named() -> None:
    table = pd.DataFrame({"id": ["a", None, "a"]})
    with pytest.raises(UserError, match="column 'id' is blank in 1 of 3 rows"):
        require_filled(table, ["id"], path=Path("t.csv"))
    with pytest.raises(UserError, match="lists 1 ids more than once, first 'a'"):
        require_unique(table["id"], path=Path("t.csv"))


def test_a_record_without_its_file_is_dropped(tmp_path: Path) -> None:
    record = Record(image_id="a", image=tmp_path / "a.png", patient="a", study="a")
    assert present(record, root=tmp_path) == Excluded(str(tmp_path / "a.png"), "missing file")
    record.image.touch()
    assert present(record, root=tmp_path) is record
    assert present(record, root=tmp_path / "b") == Excluded("a", "image outside the root")


@pytest.mark.parametrize(
    ("path", "inside"),
    [("raw/a", True), ("raw/../raw/a", True), ("raw/../a", False), ("raw/a/../../b", False), ("/raw/a", False)],
)
def test_paths_out_of_the_archive(path: str, inside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_below(Path(path), Path("raw")) == is_below(Path(path), tmp_path / "raw") == inside


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    assert not is_there(tmp_path / ("x" * 5000))
    (tmp_path / "loop").symlink_to("loop")
    assert not is_there(tmp_path / "loop") and not is_there(tmp_path)
