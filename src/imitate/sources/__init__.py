"""The sources that ``imitate prepare`` reads: one file each, turning a raw tree into records."""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Literal, NamedTuple

from imitate.config import Config
from imitate.data.prepared import Dropped, Record
from imitate.data.tables import MISSING, is_below, is_there
from imitate.names import Mode


class TableColumns(Config):
    """Where the ``table`` source finds things; the defaults are the names that it looks for."""

    image_path: str = "image_path"
    patient: str = "patient"
    study: str = "study"
    split: str = "split"
    view: str = "view"
    report: str = "report"
    findings: str = "findings"
    impression: str = "impression"
    labels: tuple[str, ...] = ()  # label columns, 0/1/blank


class SourceOptions(Config):
    """What the user says of a raw tree."""

    raw: Path = Path()  # the raw archive; synthetic: needs none
    mode: Mode = "clean"  # paper: the sizes, splits and quirks behind published tables
    reports: Path | None = None  # mimic-cxr: mimic-cxr-reports.zip or the folder it unpacks to; default: below raw
    columns: TableColumns = TableColumns()  # table
    sections: Path | None = None  # table: YAML that maps a house style's section headers
    n: int = 200  # synthetic: number of images
    seed: int = 0  # synthetic
    split_by: Literal["official", "patient"] = "official"  # chestxray14: its own lists, or 70/10/20 by patient


class Dataset(NamedTuple):
    """``records`` yields every usable image, and a Dropped for each one that is not; UserError for a wrong tree."""

    records: Callable[[SourceOptions], Iterator[Record | Dropped]]
    classes: tuple[str, ...] = ()  # the order of the label vector; () where there are none or they come with the data
    expectations: Mapping[str, int] = {}  # counts of the published data (clean mode), for `imitate doctor` to compare


def dataset(name: str) -> Dataset:
    """The source of this name; each module of this package ends in ``DATASET = Dataset(...)``."""
    module = import_module(f"{__name__}.{name.replace('-', '_')}")
    found: Dataset = module.DATASET
    return found


def present(record: Record, *, root: Path) -> Record | Dropped:
    """The record, or why it is left out where its image file is not there or not below ``root``."""
    if not is_below(record.image, root):
        return Dropped(record.image_id, "image outside the root")
    return record if is_there(record.image) else Dropped(str(record.image), MISSING)
