"""Tables that come with an archive: csv, csv.gz or parquet."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from imitate.types import UserError


def read_table(path: Path, required: Sequence[str], *, text: bool = False) -> pd.DataFrame:
    """``text`` reads every cell as text, so that ids keep their zeros; UserError names the file and absent columns."""
    if not path.is_file():
        raise UserError(f"no table at {path}")
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        else:
            table = pd.read_csv(path, dtype="string" if text else None, skipinitialspace=True, encoding="utf-8-sig")
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is not a readable table: {' '.join(str(error).split())}") from error
    missing = [column for column in required if column not in table]
    if missing:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(table.columns)}")
    return table
