"""A prepared folder in the making: pixels are appended, a journal says how far they are good, meta.json ends it.

A chunk of records is written to images.npy (and masks.npy) and synced; only then a line in progress.jsonl tells of it,
synced too. Whatever stops the process, the next one cuts the files back to the last whole line and goes on from there.
"""

import errno
import fcntl
import hashlib
import io
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from imitate.data.chunks import Chunk
from imitate.errors import UserError

JOURNAL, IMAGES, MASKS, META = "progress.jsonl", "images.npy", "masks.npy", "meta.json"
HOLDER = "holder"  # who prepares the folder at present
HEADER = 128  # bytes of an .npy header
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Unfinished:
    """Opens ``out`` to go on, alone. UserError where it is something else or was begun with other ``settings``."""

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        self.out, self.settings = out, settings
        self.chunks = self.records = self.rows = 0  # records: consumed, usable or not
        self.fields = self.source = ""  # digests from the first record on: fields; fields and content
        self.files: dict[str, IO[bytes]] = {}
        try:
            out.mkdir(parents=True, exist_ok=True)
            if not (out / JOURNAL).is_file() and any(out.iterdir()):
                raise UserError(f"{out} is not empty and holds no prepared folder: choose another --out")
            self.journal = (out / JOURNAL).open("a+b")
        except OSError as error:
            raise UserError(f"cannot write into {out} ({error.strerror}): choose another --out") from error
        try:
            self._resume()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Unfinished":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for file in (self.journal, *self.files.values()):
            with suppress(OSError):  # bytes that a full disk refused; the next run cuts them off
                file.close()

    def entries(self) -> Iterator[dict[str, Any]]:
        """The journal's chunks, as ``append`` told them."""
        for number, (entry, _) in enumerate(self._lines()):
            if number:
                yield entry

    def append(self, chunk: Chunk) -> None:
        with self.room():
            self._write(IMAGES, chunk.images)
            if chunk.masks is not None or MASKS in self.files:
                self._write(MASKS, np.zeros_like(chunk.images) if chunk.masks is None else chunk.masks)
            entry = chunk._asdict() | {"images": len(chunk.images), "masks": MASKS in self.files}
            entry["source"] = _digest(self.source, chunk.fields, chunk.content)
            self._tell(entry)
        self._count(entry)

    def finish(self, meta: dict[str, Any]) -> dict[str, Any]:
        """Write meta.json, the proof that everything else is there, and drop the journal."""
        with self.room():
            written = self.out / f"{META}.part"
            written.write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
            for path in (*self.out.iterdir(), self.out):
                sync(path)
            written.replace(self.out / META)
            sync(self.out)
            (self.out / HOLDER).unlink()
            (self.out / JOURNAL).unlink()
        return meta

    def seal(self) -> None:
        """Give images.npy and masks.npy their headers: from now on they are arrays."""
        with self.room():
            for file in self.files.values():
                header = io.BytesIO()
                shape = (self.rows, self.settings["size"], self.settings["size"])
                np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
                assert header.tell() == HEADER
                file.seek(0)
                file.write(header.getvalue())
                file.flush()

    def discard(self) -> None:
        """Leave nothing behind, for a run that found no usable record."""
        for name in (IMAGES, MASKS, HOLDER, JOURNAL):
            (self.out / name).unlink(missing_ok=True)

    def _resume(self) -> None:
        try:
            fcntl.flock(self.journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            told = (self.out / HOLDER).read_text(encoding="utf-8") if (self.out / HOLDER).is_file() else ""
            raise UserError(f"{told or 'another process'} is preparing {self.out}: wait until it has ended") from error
        (self.out / HOLDER).write_text(this_process(), encoding="utf-8")
        good, masks = 0, False
        for entry, length in self._lines():
            if not good:
                require_same(self.out, entry, self.settings)
            else:
                self._count(entry)
                masks = entry["masks"]
            good += length
        self.journal.truncate(good)
        with self.room():
            if not good:
                self._tell(self.settings)
            self._open(IMAGES, known=self.rows > 0)
            if masks:
                self._open(MASKS, known=True)
            else:
                (self.out / MASKS).unlink(missing_ok=True)

    def _lines(self) -> Iterator[tuple[dict[str, Any], int]]:
        """The whole lines of the journal with their lengths; a torn end is left out."""
        self.journal.seek(0)
        for line in self.journal:
            if not line.endswith(b"\n"):
                return
            try:
                entry = json.loads(line)
            except ValueError:  # a lost block of the disk
                return
            yield entry, len(line)

    def _count(self, entry: dict[str, Any]) -> None:
        self.chunks += 1
        self.rows += len(entry["rows"])
        self.records += len(entry["rows"]) + len(entry["dropped"])
        self.fields, self.source = entry["fields"], entry["source"]

    def _open(self, name: str, *, known: bool) -> None:
        path, end = self.out / name, HEADER + self.rows * self.settings["size"] ** 2
        if known and (not path.is_file() or path.stat().st_size < end):
            raise UserError(f"{path} is shorter than its journal says: delete {self.out} and prepare it again")
        self.files[name] = path.open("r+b" if path.is_file() else "w+b")
        self.files[name].truncate(end)  # rows before the first mask become zeros
        self.files[name].seek(end)

    def _write(self, name: str, array: np.ndarray) -> None:
        if name not in self.files:
            self._open(name, known=False)
        self.files[name].write(array.tobytes())
        self.files[name].flush()
        os.fsync(self.files[name].fileno())

    def _tell(self, entry: dict[str, Any]) -> None:
        self.journal.write(json.dumps(entry).encode() + b"\n")
        self.journal.flush()
        os.fsync(self.journal.fileno())

    @contextmanager
    def room(self) -> Iterator[None]:
        """A full disk is the user's to mend; what is journalled stays good."""
        try:
            yield
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise UserError(
                f"no space left for {self.out} after {self.rows} images ({error.strerror}): "
                "make room and run the same command again, it goes on from there"
            ) from error


def require_same(out: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """UserError that tells what ``out`` was prepared with, where ``new`` settings differ."""
    old, new = ({**settings, **settings.get("options", {}), "options": {}} for settings in (old, new))
    differences = [
        f"{key} {json.dumps(old.get(key))}, not {json.dumps(new.get(key))}"
        for key in dict.fromkeys([*new, *old])
        if old.get(key) != new.get(key)
    ]
    if differences:
        raise UserError(f"{out} was prepared with {'; '.join(differences)}: choose another --out, or delete it first")


def this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(*parts: str) -> str:
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()
