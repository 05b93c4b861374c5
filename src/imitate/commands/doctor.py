"""``imitate doctor``: is this raw tree, prepared folder, run or installation sound?"""

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
    """Check raw trees, prepared folders and runs; without a path, the installation.

    What is broken ends in an error (exit code 2); a warning does not, as it may well be as it should. A source's own
    options are flags too: `imitate doctor PATH --source NAME --help` lists them.

    Args:
        paths: What to check; each is recognised by its files.
        source: What a raw tree is, where its files do not tell.
        excluded: List the records that a prepared folder excludes, each with its reason, in place of the checks.
    """
    from imitate.doctor.examine import examine, list_excluded

    folders = tuple(map(Path, several(paths)))
    if excluded:
        list_excluded(folders)
    else:
        examine(folders, source=source, options=options)
