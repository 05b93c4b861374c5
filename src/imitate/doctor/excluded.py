"""The records that a prepared folder excludes, each with its reason."""

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from imitate.errors import UserError


def list_excluded(folders: Sequence[Path]) -> None:
    """Print a CSV table to standard output: where the record is in the raw archive, and why it is excluded."""
    if not folders:
        raise UserError("--excluded lists the records of a prepared folder: name it")
    found = [row for folder in folders for row in excluded(folder)]
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerows([("source", "reason"), *found])


def excluded(folder: Path) -> Iterator[tuple[str, str]]:
    """Before decoding, as the manifests have it, then while decoding."""
    import pyarrow.parquet as pq

    manifests = sorted(folder.glob("manifest*.parquet"), key=lambda path: (len(path.name), path.name))
    if (folder / "dropped.csv").is_file():  # format 1
        with (folder / "dropped.csv").open(encoding="utf-8", newline="") as file:
            yield from ((source, reason) for source, reason in list(csv.reader(file))[1:])
    elif not manifests:
        raise UserError(f"{folder} is no prepared folder: give one that `imitate prepare` wrote")
    for path in manifests:
        table = pq.read_table(path, columns=["source_place", "excluded"])
        pairs = zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
        yield from ((place, reason) for place, reason in pairs if reason is not None)
    for path in sorted((folder / "shards").glob("*.excluded.parquet")):
        table = pq.read_table(path, columns=["source_place", "reason"])
        yield from zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
