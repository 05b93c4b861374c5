"""Wheels of what is installed here, so that what installs from an index can be tested without one."""

import configparser
import zipfile
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LEFT = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json", "uv_build.json"}


def wheelhouse(folder: Path, requirements: Iterable[str]) -> Path:
    """``folder`` with a wheel of each requirement and of all that it requires, extras included."""
    folder.mkdir(parents=True, exist_ok=True)
    open_, seen = [(Requirement(line), "") for line in requirements], set[tuple[str, str]]()
    packed = set[str]()
    while open_:
        wanted, extra = open_.pop()
        if wanted.marker and not wanted.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(wanted.name)
        found = distribution(wanted.name)
        if name not in packed:
            packed.add(name)
            pack(found, folder)
        for each in ("", *wanted.extras):
            if (name, each) not in seen:
                seen.add((name, each))
                open_ += [(Requirement(line), each) for line in found.requires or []]
    return folder


def pack(found: Distribution, folder: Path) -> Path:
    """The wheel from which a distribution was installed, without what installing has added."""
    meta = next(path for path in found.files or [] if path.name == "WHEEL").parent
    tags = [line.partition(": ")[2] for line in (found.read_text("WHEEL") or "").splitlines() if line.startswith("Tag")]
    stem = meta.name.removesuffix(".dist-info")
    entries = configparser.ConfigParser(delimiters="=")
    entries.read_string(found.read_text("entry_points.txt") or "")
    made = {name for group in entries.sections() if group.endswith("_scripts") for name in entries[group]}
    path = folder / f"{stem}-{tags[-1]}.whl"
    names = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as wheel:
        for file in found.files or []:
            name = PurePosixPath(file.as_posix())
            if name.suffix == ".pyc" or (file.parent == meta and file.name in LEFT):
                continue
            if name.parts[0] == "..":
                if "bin" not in name.parts or name.name in made:
                    continue
                name = PurePosixPath(f"{stem}.data/scripts/{name.name}")
            wheel.write(str(file.locate()), str(name))
            names.append(str(name))
        record = f"{meta}/RECORD"
        wheel.writestr(record, "".join(f"{name},,\n" for name in [*names, record]))
    return path
