"""Files that are whole or absent, their digests, and a lock that works on every file system."""

import errno
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from imitate.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_FLOCK = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
PART = ".part"  # ends the name of a file that is being written
LOCK_TIMEOUT = 600.0  # seconds


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a name to write to; afterwards the file is synced and renamed to ``path``, or removed after an error."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PART}")
    try:
        yield part
        sync(part)
        part.replace(path)
    except FileNotFoundError as error:
        if error.filename != str(part):
            raise
        raise UserError(f"{part} has disappeared: another process writes the same shards; run only one") from error
    finally:
        part.unlink(missing_ok=True)
    with suppress(OSError):  # some systems do not open folders
        sync(path.parent)


def remove_parts(folder: Path) -> None:
    """Remove what killed processes left behind."""
    for path in folder.glob(f"*{PART}"):
        with suppress(OSError):  # in use, on Windows
            path.unlink()


def files_below(folder: Path) -> list[str]:
    """Names relative to ``folder``, with "/", sorted; hidden files and folders and links to folders are skipped."""

    def refuse(error: OSError) -> None:
        raise UserError(f"cannot list {error.filename} ({error.strerror}): correct the path or its permissions")

    names = []
    for root, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inner = Path(root).relative_to(folder)
        names += [(inner / name).as_posix() for name in files if not name.startswith(".")]
    return sorted(names)


def sync(path: Path) -> None:
    """Wait until the disk has it."""
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


@contextmanager
def locked(path: Path, *, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold the lock file ``path``; a soft lock where the file system has none of its own."""
    soft = path.with_name(path.name + ".soft")
    lock = _acquire(FileLock(path), timeout) or _acquire(SoftFileLock(soft), timeout)
    if lock is None:
        raise UserError(f"cannot lock a file in {path.parent}: choose a folder on another file system")
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: BaseFileLock, timeout: float) -> BaseFileLock | None:
    try:
        lock.acquire(timeout=timeout)
    except Timeout as error:
        message = f"another process holds {lock.lock_file}: wait until it has ended, or delete it if none is left"
        raise UserError(message) from error
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in NO_FLOCK:
            raise
        return None
    return lock
