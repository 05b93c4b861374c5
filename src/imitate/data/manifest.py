"""How a prepared folder stores the records of a source.

A manifest is a Parquet file of row groups of ``ROWS`` records, usable and excluded ones. It is written first and never
changed; an appended part of the folder is a manifest of its own.
"""

import hashlib
import json
import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from imitate.data.annotations import ARROW, Annotation, from_row, to_row
from imitate.data.records import Excluded, Record
from imitate.data.table_files import read_bounded
from imitate.errors import UserError

ROWS = 1024  # records of a row group, and of a shard
TEXTS = ("image_id", "patient", "study", "split", "projection", "findings", "impression", "language", "sex", "scanner")
SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("image", pa.string()),
        ("member", pa.string()),
        *((name, pa.string()) for name in TEXTS[1:]),
        ("labels", pa.list_(pa.float32())),
        ("annotations", pa.list_(ARROW)),
        ("annotated", pa.bool_()),
        ("age", pa.float64()),
        ("extra", pa.map_(pa.string(), pa.string())),
        ("invert", pa.bool_()),
        ("window", pa.list_(pa.float64())),
        ("notes", pa.list_(pa.string())),
        ("source_place", pa.string()),
        ("excluded", pa.string()),
        ("digest", pa.binary(16)),  # of the fields above
    ]
)
NAME = "manifest"
ORIGINALS = "originals"  # of a row, no column: how demographics were written
Item = TypeVar("Item")
_ESCAPED = re.compile("[\0\ud800-\udfff]")


class Layout(NamedTuple):
    """What it takes to store a record, and to restore it."""

    root: Path  # of the raw archive
    classes: tuple[str, ...]  # the order of the labels

    def to_row(self, record: Record) -> dict[str, Any]:
        """As ``SCHEMA`` stores it, without its digest."""
        labels = record.labels
        unknown = set(labels or ()) - set(self.classes)
        assert not unknown, f"labels {sorted(unknown)} are not among {self.classes}"
        values = labels and [float(np.float32(labels.get(name, math.nan))) for name in self.classes]
        row: dict[str, Any] = {name: as_text(getattr(record, name)) for name in TEXTS}
        for name in ("findings", "impression"):
            row[name] = row[name] if (row[name] or "").strip() else None
        return row | {
            "image": escape(self._relative(record.image)),
            "member": escape(record.member),
            "labels": values or None,
            "annotations": [to_row(_as_text(each)) for each in record.annotations],
            "annotated": None if record.annotated is None else bool(record.annotated),
            "age": None if record.age is None else float(record.age),
            "extra": sorted((as_text(key) or "", as_text(value) or "") for key, value in record.extra.items()),
            "invert": None if record.invert is None else bool(record.invert),
            "window": record.window and [float(value) for value in record.window],
            "notes": list(record.notes),
            "source_place": None,
            "excluded": None,
            ORIGINALS: record.originals,
        }

    def from_row(self, row: Mapping[str, Any]) -> Record:
        """The inverse of ``to_row``."""
        labels = row["labels"]
        return Record(
            **{name: row[name] for name in (*TEXTS, "age", "annotated", "invert")},
            image=self.root / unescape(row["image"]),
            member=unescape(row["member"]),
            labels=None if labels is None else dict(zip(self.classes, labels, strict=True)),
            annotations=tuple(from_row(each) for each in row["annotations"]),
            extra=dict(row["extra"]),
            window=row["window"] and tuple(row["window"]),
            notes=tuple(row["notes"]),
        )

    def _relative(self, image: Path) -> str:
        for root in (self.root, self.root.resolve()):
            if image.is_relative_to(root):
                return image.relative_to(root).as_posix()
        return str(image.absolute())


def excluded_row(excluded: Excluded) -> dict[str, Any]:
    """As ``SCHEMA`` stores it, without its digest."""
    row: dict[str, Any] = dict.fromkeys(SCHEMA.names[:-1])
    return row | {"source_place": as_text(excluded.source), "excluded": as_text(excluded.reason)}


def as_text(text: str | None) -> str | None:
    """Without the lone surrogates of names that are not Unicode."""
    return None if text is None else text.encode("utf-8", "replace").decode()


def _as_text(annotation: Annotation) -> Annotation:
    words: dict[str, Any] = {name: as_text(getattr(annotation, name)) for name in ("label", "phrase", "reader")}
    return annotation._replace(**words)


def escape(path: str) -> str:
    """A file name as Unicode, whatever its bytes; no file name holds a NUL, which introduces an escaped surrogate."""
    return _ESCAPED.sub(lambda found: f"\0{ord(found[0]):04x}", path)


def unescape(path: str) -> str:
    return re.sub("\0(....)", lambda found: chr(int(found[1], 16)), path)


def row_digest(row: Mapping[str, Any]) -> bytes:
    """Of the fields, whether they come from a record or from a manifest."""
    fields = json.dumps({name: row[name] for name in SCHEMA.names[:-1]}, sort_keys=True)
    return hashlib.blake2b(fields.encode(), digest_size=16).digest()


class Written(NamedTuple):
    """What a manifest holds, in short."""

    sha256: str  # over the digests of its rows
    records: int
    excluded: dict[str, int]  # by reason
    originals: dict[str, int] | None = None  # how sex and age are written in the whole source, by kind


def write_manifest(
    rows: Iterable[dict[str, Any]],
    path: Path,
    *,
    described: Mapping[str, Any],
    originals: Mapping[str, int] | None = None,
) -> Written:
    """Write rows that lack their digests; ``described`` (settings, inputs, versions) goes into the file's metadata.

    ``originals`` are those of the whole source; None: those of these rows.
    """
    content, records, excluded, kinds = hashlib.sha256(), 0, Counter[str](), Counter[str](originals or {})
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as file:
        for batch in batches(rows, ROWS):
            for row in batch:
                row["digest"] = row_digest(row)
                content.update(row["digest"])
                excluded[row["excluded"]] += 1
                kinds.update(row.get(ORIGINALS, ()))
            file.write_table(pa.Table.from_pylist(batch, SCHEMA), row_group_size=ROWS)
        records = excluded.pop(None, 0)  # type: ignore[call-overload]
        written = Written(content.hexdigest(), records, dict(sorted(excluded.items())), dict(sorted(kinds.items())))
        metadata = {"written": written._asdict(), "described": described}
        file.add_key_value_metadata({key: json.dumps(value, sort_keys=True) for key, value in metadata.items()})
    return written


class Manifests:
    """The manifests of a prepared folder, or any others, one after the other; ``shards`` counts their row groups."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.paths = list(paths)
        self.files: list[pq.ParquetFile] = []
        self.written: list[Written] = []
        self.described: list[dict[str, Any]] = []
        for path in self.paths:
            try:
                file = pq.ParquetFile(path)
                self.written.append(Written(**json.loads(file.metadata.metadata[b"written"])))
                self.described.append(json.loads(file.metadata.metadata[b"described"]))
            except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path} is damaged ({str(error)[:200]}): prepare the folder again") from error
            self.files.append(file)
        self.starts = list(accumulate((file.num_row_groups for file in self.files), initial=0))
        self.shards = self.starts[-1]

    @classmethod
    def of(cls, folder: Path) -> "Manifests":
        """In the order in which they were appended."""
        found = [folder / f"{NAME}.parquet", *folder.glob(f"{NAME}-*.parquet")]
        return cls(sorted(filter(Path.is_file, found), key=lambda path: int(path.stem.partition("-")[2] or 0)))

    def __enter__(self) -> "Manifests":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self.files:
            file.close()

    def length(self, shard: int) -> int:
        """How many records it holds, usable or not."""
        file, group = self._at(shard)
        return file.metadata.row_group(group).num_rows

    def rows(self, shard: int, *, columns: list[str] | None = None) -> list[dict[str, Any]]:
        file, group = self._at(shard)
        table = read_bounded(file, self.paths[self.part(shard)], columns or file.schema_arrow.names, groups=[group])
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows

    def records(self, shard: int, layout: Layout) -> list[Record]:
        """The usable ones."""
        return [layout.from_row(row) for row in self.rows(shard) if row["excluded"] is None]

    def part(self, shard: int) -> int:
        """Which of the manifests it belongs to."""
        return bisect_right(self.starts, shard) - 1

    def _at(self, shard: int) -> tuple[pq.ParquetFile, int]:
        part = self.part(shard)
        return self.files[part], shard - self.starts[part]


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
