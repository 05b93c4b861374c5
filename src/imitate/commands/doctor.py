"""``imitate doctor``: check a raw archive, a prepared folder, a run or the installation."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from imitate.commands import flag
from imitate.names import Paths, several

if TYPE_CHECKING:
    from imitate.config import Config

OMITTED = ("raw",)  # the option of a source that is given as PATH


def options(words: list[str]) -> "type[Config] | None":
    """Those of the --source."""
    from imitate.sources import find_source

    source = flag(words, "--source")
    return None if source is None else find_source(source).Options


def doctor(paths: Paths = (), /, *, source: str | None = None, excluded: bool = False, **options: Any) -> None:
    """Check raw archives, prepared folders and runs; without a path, the installation.

    The exit code is 2 if something is broken; warnings do not change it. `imitate doctor PATH --source NAME --help`
    also lists the options of the source.

    Args:
        paths: Raw archives, prepared folders, runs or models; each is recognised by its files.
        source: The source of a raw archive, if it is not recognised.
        excluded: List the records that a prepared folder excludes, each with its reason, instead of checking.
    """
    from imitate.doctor.examine import examine, list_excluded

    folders = tuple(map(Path, several(paths)))
    if excluded:
        list_excluded(folders)
    else:
        examine(folders, source=source, options=options)
