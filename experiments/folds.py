"""Folders with other splits of the same images: folds to select on, and patients held out to confirm on, once.

    python experiments/folds.py WORK/open-i --folds 5 --held-out 0.2

Of the train split's patients, a hash of the id holds out a fraction; FOLDER-confirm has them as its test split and
trains on all others. FOLDER-fold-0 to FOLDER-fold-4 know nothing of them: each has a fifth of the other patients as its
test split, and trains on the rest. The validation split stays what it is; the archive's own test split is excluded.
Pixels are linked, not copied.
"""

import argparse
import json
import os
import shutil
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from imitate.config.digests import sha256 as file_digest
from imitate.data.index import fingerprint
from imitate.data.splits import patient_folds
from imitate.errors import UserError

WORDS = 2**32
FOLDS, HELD_OUT = 5, 0.2  # of the studies
EXCLUDED = "official "  # before the name of the archive's own test split, which is neither selected nor confirmed on


def is_held_out(patient: str, fraction: float) -> bool:
    """By the hash of the id alone: whoever comes to the archive later changes nothing for those who are there."""
    return int.from_bytes(sha256(f"held out/{patient}".encode()).digest()[:4]) < fraction * WORDS


def make(folder: Path, *, folds: int, held_out: float) -> list[Path]:
    """The folders, the one to confirm on last.

    UserError: ``folder`` is no prepared folder of format 2, or what is there was made of another or in other numbers.
    """
    if not (folder / "index.json").is_file():
        raise UserError(f"{folder} is no prepared folder: it has no index.json")
    table = pq.read_table(sorted((folder / "shards").glob("*[0-9].parquet")), columns=["patient", "split"]).to_pandas()
    training = (table["split"] == "train").to_numpy()
    confirms = training & np.array([is_held_out(each, held_out) for each in table["patient"]])
    selects = training & ~confirms
    fold = np.full(len(table), -1)
    fold[selects] = patient_folds(table["patient"][selects].tolist(), folds)
    others = table["split"].where(table["split"] != "test", EXCLUDED + "test")
    made, how = [], {"of": _fingerprint(folder), "folds": folds, "held_out": held_out}
    for number in range(folds):
        split = others.mask(confirms, "held out").mask(fold == number, "test")
        made.append(_written(folder, folder.with_name(f"{folder.name}-fold-{number}"), split, how))
    split = others.mask(confirms, "test")
    return [*made, _written(folder, folder.with_name(f"{folder.name}-confirm"), split, how)]


def check_folds(folder: Path, made: Path) -> None:
    """UserError: ``made`` has the splits of another folder than this one, or others than those of the studies."""
    of = {"of": _fingerprint(folder)} if (folder / "index.json").is_file() else {}
    _check(made, {**of, "folds": FOLDS, "held_out": HELD_OUT})


def _fingerprint(folder: Path) -> str:
    found: str = _index(folder)["fingerprint"]
    return found


def _index(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return found


def _check(made: Path, how: dict[str, Any]) -> None:
    known = _index(made).get("folds", {})
    if any(known.get(name, value) != value for name, value in how.items()):
        raise UserError(f"{made} has other folds, or those of another folder: delete it")


def _written(folder: Path, out: Path, splits: pd.Series, how: dict[str, Any]) -> Path:
    """The folder again, its images in these splits; not again where it is there."""
    if (out / "index.json").is_file():
        _check(out, how)
        return out
    shutil.rmtree(out, ignore_errors=True)
    (out / "shards").mkdir(parents=True)
    index, start = _index(folder), 0
    for shard in index["shards"]:
        for name in shard["sha256"]:
            source, target = folder / "shards" / name, out / "shards" / name
            if name == f"{shard['name']}.parquet":
                table = pq.read_table(source)
                part = pa.array(splits[start : start + shard["rows"]].tolist(), pa.string())
                table = table.set_column(table.schema.get_field_index("split"), "split", part)
                pq.write_table(table, target)
                shard["sha256"][name] = file_digest(target)
            else:
                os.link(source, target)
        start += shard["rows"]
    for part in index.get("parts", ()):
        os.link(folder / part["manifest"], out / part["manifest"])
    index["splits"] = {str(name): int(count) for name, count in splits.value_counts().items()}
    index["folds"] = how
    index["fingerprint"] = fingerprint(index["settings"], index["shards"])
    (out / "index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--folds", type=int, default=FOLDS)
    parser.add_argument("--held-out", type=float, default=HELD_OUT, help="fraction of the train split's patients")
    arguments = parser.parse_args()
    try:
        for each in make(arguments.folder, folds=arguments.folds, held_out=arguments.held_out):
            counts = _index(each)["splits"]
            sys.stdout.write(f"{each}: {', '.join(f'{count} {name}' for name, count in counts.items())}\n")
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
