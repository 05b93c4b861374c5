"""One prepared folder on disk: its index and its shards, checked before they are read. docs/prepared-format.md."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ConfigDict, Field

from imitate.config import Config, validate
from imitate.data.table_files import read_bounded
from imitate.errors import UserError
from imitate.names import SECTIONS, Resize

FORMAT = 2
RESIZES: dict[str, Resize] = {"squash": "stretch", "pad": "letterbox"}
"""What format 1 called them."""
HEADER = 128  # bytes of a .npy file before its pixels
INDEX_BYTES = 2**28  # 300 bytes a shard
ROW_BYTES = 2**16  # of a row of a shard's table, uncompressed
LIGHT = pa.schema(
    [
        *((name, pa.string()) for name in ("image_id", "patient", "study", "split", "projection")),
        ("annotated", pa.bool_()),
        ("sex", pa.string()),
        ("age", pa.float64()),
        *((f"has_{section}", pa.bool_()) for section in SECTIONS),
    ]
)
"""The columns that an open corpus holds in memory."""
FILLED = ("image_id", "patient", "study", "split", "projection", "has_findings", "has_impression")


class Lenient(Config):
    """What a reader needs of a file that others may extend."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _Settings(Lenient):
    source: str = "unknown"
    size: int = Field(ge=1, le=2**14)
    resize: Resize = "stretch"
    classes: tuple[str, ...] = ()


class _Shard(Lenient):
    name: str = Field(pattern=r"^\d{5,12}$")
    rows: int = Field(ge=0, le=2**31)


class _Traits(Lenient):
    masks: bool = False
    projections: tuple[str, ...] | None = None


class _Index(Lenient):
    settings: _Settings
    fingerprint: str
    traits: _Traits = _Traits()
    shards: tuple[_Shard, ...] = ()


class Shard(NamedTuple):
    """Consecutive rows of a folder."""

    rows: int
    table: Path
    images: Path
    masks: Path | None


class Folder(NamedTuple):
    """``meta`` is index.json with its ``settings`` beside the other keys."""

    root: Path
    meta: dict[str, Any]
    shards: tuple[Shard, ...]

    @property
    def ends(self) -> np.ndarray:
        """The first row after each shard."""
        return np.cumsum([shard.rows for shard in self.shards], dtype=np.int64)

    def pixels(self, number: int, *, masks: bool = False) -> np.ndarray:
        """uint8 (rows, S, S) of one shard."""
        shard, side = self.shards[number], self.meta["size"]
        path = shard.masks if masks else shard.images
        assert path is not None
        return map_pixels(path, (shard.rows, side, side))

    def light(self, number: int) -> pa.Table:
        """The columns of ``LIGHT``."""
        if self.meta["format"] == FORMAT:
            return _cast(self.read(number, LIGHT.names), self.shards[number].table)
        table = self.read(number, ["image_id", "patient", "study", "split", "view", *SECTIONS])
        rows = len(table)
        columns = {name: table[name] for name in ("image_id", "patient", "study", "split")}
        columns |= {"projection": table["view"], "annotated": pa.nulls(rows, pa.bool_())}
        columns |= {"sex": pa.array([""] * rows), "age": pa.nulls(rows, pa.float64())}
        columns |= {f"has_{section}": table[section].is_valid() for section in SECTIONS}
        return _cast(pa.table(columns), self.shards[number].table)

    def holds(self, number: int, column: str) -> bool:
        """Whether the shard has this column, which a folder may lack."""
        shard = self.shards[number].table
        try:
            return column in pq.read_schema(shard).names
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UserError(f"cannot read {shard} ({str(error)[:200]}): prepare it again") from error

    def read(self, number: int, columns: Sequence[str]) -> pa.Table:
        """These columns of one shard. UserError: damaged, of another length, or larger than such a table is."""
        shard = self.shards[number]
        try:
            with pq.ParquetFile(shard.table) as file:
                meta = file.metadata
                size = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
                if meta.num_rows != shard.rows:
                    raise UserError(f"{shard.table} has {meta.num_rows} rows, not {shard.rows}: prepare it again")
                if size > shard.rows * ROW_BYTES + 2**20:
                    raise UserError(
                        f"{shard.table} holds {size} bytes, too many for {shard.rows} rows: prepare it again"
                    )
                if absent := set(columns) - {path.partition(".")[0] for path in file.schema_arrow.names}:
                    raise UserError(f"{shard.table} lacks the column {min(absent)}: prepare it again")
                return read_bounded(file, shard.table, columns)
        except (pa.ArrowException, OSError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"cannot read {shard.table} ({str(error)[:200]}): prepare it again") from error


def open_folder(root: Path) -> Folder:
    """Raises UserError where the folder is absent, incomplete, of another format, or lacks a file or a part of one."""
    if (root / "index.json").is_file():
        folder = _open_second(root)
    elif (root / "meta.json").is_file():
        folder = _open_first(root)
    else:
        state = "is incomplete (run the same `imitate prepare` again)" if root.is_dir() else "does not exist"
        raise UserError(f"prepared folder {root} {state}")
    side = folder.meta["size"]
    for shard in folder.shards:
        _require(shard.table, None)
        for path in (shard.images, shard.masks):
            if path is not None:
                _require(path, HEADER + shard.rows * side * side)
    return folder


def map_pixels(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A read-only memory map of a .npy file of uint8, which holds no file descriptor, however many there are."""
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            found, fortran, dtype = read(file)
            start = file.tell()
        if (found, fortran, dtype) != (shape, False, np.dtype(np.uint8)):
            wanted = " x ".join(map(str, shape))
            raise UserError(f"{path} holds {dtype} {' x '.join(map(str, found))}, not uint8 {wanted}: prepare it again")
        count = int(np.prod(shape))
        if path.stat().st_size < start + count:
            raise UserError(f"{path} is truncated: prepare it again")
        if not count:
            return np.zeros(shape, np.uint8)
        with pa.memory_map(str(path)) as mapped:
            buffer = mapped.read_buffer()
        return np.frombuffer(buffer, np.uint8, count, start).reshape(shape)
    except (OSError, ValueError, pa.ArrowException) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"cannot read {path} ({str(error)[:200]}): prepare it again") from error


def _open_second(root: Path) -> Folder:
    values = read_json(root / "index.json")
    if values.get("format") != FORMAT:
        raise UserError(f"{root} has format {values.get('format')!r}, not {FORMAT}: prepare it again")
    index = validate(_Index, values, where=str(root / "index.json"))
    shards = []
    for name, rows in ((shard.name, shard.rows) for shard in index.shards):
        place = root / "shards" / name
        images, masks, table = (place.with_name(f"{name}{end}") for end in (".npy", ".masks.npy", ".parquet"))
        shards.append(Shard(rows, table, images, masks if index.traits.masks else None))
    settings = index.settings.model_dump() | {"classes": list(index.settings.classes)}
    traits = index.traits.model_dump() | values.get("traits", {})
    meta = {"tone": "unknown", **values, **values["settings"], **settings, "traits": traits}
    return Folder(root, meta, tuple(shards))


def _open_first(root: Path) -> Folder:
    """Format 1, as one shard."""
    values = read_json(root / "meta.json")
    if values.get("format_version") != 1:
        raise UserError(f"{root} has format version {values.get('format_version')!r}, not 1: prepare it again")
    fit = values.get("fit", "squash")
    if fit not in RESIZES:
        raise UserError(f"{root / 'meta.json'}: fit {fit!r} is not one of {', '.join(RESIZES)}: prepare it again")
    wanted = {"settings": {**values, "resize": RESIZES[fit]}, "fingerprint": values.get("fingerprint")}
    index = validate(_Index, wanted, where=str(root / "meta.json"))
    table, masks = root / "table.parquet", root / "masks.npy"
    try:
        rows = pq.read_metadata(table).num_rows
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"cannot read {table} ({str(error)[:200]}): prepare it again") from error
    settings = index.settings.model_dump() | {"classes": list(index.settings.classes)}
    meta = {**values, **settings, "format": 1, "traits": {}, "tone": "unknown"}
    return Folder(root, meta, (Shard(rows, table, root / "images.npy", masks if masks.is_file() else None),))


def read_json(path: Path) -> dict[str, Any]:
    """The object that the index of a folder holds; UserError for anything else."""
    try:
        if path.stat().st_size > INDEX_BYTES:
            raise UserError(f"{path} has {path.stat().st_size} bytes, more than {INDEX_BYTES}: prepare it again")
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"cannot read {path} ({str(error)[:200]}): prepare it again") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold an object, not {type(values).__name__}: prepare it again")
    return values


def _require(path: Path, size: int | None) -> None:
    """UserError where the file is absent, or has not this many bytes."""
    try:
        found = path.stat().st_size
    except OSError as error:
        raise UserError(f"{path} is missing: copy it again, or prepare it again") from error
    if size is not None and found != size:
        raise UserError(f"{path} has {found} bytes, not {size}: copy it again, or prepare it again")


def _cast(table: pa.Table, path: Path) -> pa.Table:
    try:
        table = table if table.schema == LIGHT else table.select(LIGHT.names).cast(LIGHT)
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise UserError(f"{path} is not a table of a prepared folder ({str(error)[:200]}): prepare it again") from error
    for name in FILLED:
        if table[name].null_count:
            raise UserError(f"{path}: {table[name].null_count} rows have no {name}: prepare it again")
    return table
