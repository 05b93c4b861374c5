"""What several sources share: published headers, uncertain labels, repeated rows, images inside zip archives."""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from imitate.data.records import Excluded
from imitate.data.tables import is_there
from imitate.data.words import folded
from imitate.errors import UserError

if TYPE_CHECKING:
    from imitate.data.lazy import pd

log = logging.getLogger(__name__)
Uncertain = Literal["unknown", "positive", "negative", "mixed"]
UNCERTAIN = (
    "what -1 becomes: unknown, positive, negative, or mixed: positive for Atelectasis, Edema and Pleural Effusion, "
    "negative for the others"
)
POSITIVE = ("Atelectasis", "Edema", "Pleural Effusion")
NOT_ARCHIVE = "damaged, encrypted or unsupported archive"  # as of an archive that is damaged further in


def check_header(path: Path, found: Sequence[str], published: Sequence[str]) -> None:
    """Warn where a table's columns are not the published ones; an unnamed column is an index."""
    here = {folded(name): name for name in found if name and not name.startswith("Unnamed")}
    there = {folded(name): name for name in published}
    lacks = [name for key, name in there.items() if key not in here]
    extra = [name for key, name in here.items() if key not in there]
    if lacks or extra:
        differences = [f"it lacks {', '.join(lacks)}"] * bool(lacks) + [f"it also has {', '.join(extra)}"] * bool(extra)
        log.warning("the header of %s differs from the published one: %s", path.name, "; ".join(differences))


def settle(labels: pd.DataFrame, policy: Uncertain) -> pd.DataFrame:
    """Labels 1, 0, -1 and blank as 1, 0 and unknown: -1 by the policy; blank, which is not mentioned, as 0."""
    values = {
        "unknown": dict.fromkeys(labels.columns, float("nan")),
        "positive": dict.fromkeys(labels.columns, 1.0),
        "negative": dict.fromkeys(labels.columns, 0.0),
        "mixed": {name: float(name in POSITIVE) for name in labels.columns},
    }[policy]
    filled = labels.fillna(0.0)
    return filled.mask(filled == -1.0, filled * 0.0 + [values[name] for name in labels.columns])


class Archives:
    """The members of zip archives, each archive opened once; ``damaged`` are those that cannot be read."""

    def __init__(self, paths: Iterable[Path], member: re.Pattern[str]) -> None:
        """``member`` matches the name of an image; its first group is the image's key."""
        self.places: dict[str, tuple[Path, str]] = {}
        self.damaged: set[Path] = set()
        for path in sorted(paths):
            try:
                with zipfile.ZipFile(path) as archive:
                    names = archive.namelist()
            except (zipfile.BadZipFile, NotImplementedError, OSError) as error:
                log.warning("%s cannot be read (%s): download it again", path, error)
                self.damaged.add(path)
                continue
            self.places |= {found[1]: (path, name) for name in names if (found := member.search(name))}


def first_file(paths: Iterable[Path]) -> Path | None:
    return next(filter(is_there, paths), None)


def once(table: pd.DataFrame, key: str, *, path: Path) -> tuple[pd.DataFrame, list[Excluded]]:
    """The rows without those that are there twice, which are excluded; UserError where two of one key differ."""
    repeated = table.duplicated()
    distinct = table[~repeated]
    again = distinct[key][distinct[key].duplicated()]
    if len(again):
        raise UserError(
            f"{path} lists {len(again)} ids again with other values, first {again.iloc[0]!r}: download it again"
        )
    return distinct, [Excluded(str(name), "listed again") for name in table[key][repeated]]


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Each row by its columns, None where blank."""
    return cast("list[dict[str, Any]]", table.astype(object).where(table.notna(), None).to_dict("records"))
