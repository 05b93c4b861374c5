"""The sources that ``imitate prepare`` reads: one file each, turning a raw tree into records.

Another package adds its own through the entry-point group ``imitate.sources``: a name, and the ``Source`` behind it.
Modules of this package import nothing that is slow to start, since the command line reads their options for its help.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from imitate.config import Config
from imitate.errors import UserError

if TYPE_CHECKING:
    from imitate.data.records import Excluded, Record

log = logging.getLogger(__name__)
GROUP = "imitate.sources"
BUILT_IN = (  # ``doctor`` takes the first whose signs a raw tree has
    *("rsna", "chestxray14", "siim", "covidx", "mimic-cxr", "open-i", "object-cxr", "chexpert"),
    *("brax", "chexpert-plus", "nih-google", "padchest", "rexgradient"),
    *("chestx-det", "chexlocalize", "ms-cxr", "padchest-gr", "tbx11k", "vindr-cxr"),
    *("table", "dicomweb", "synthetic"),
)
Counts = Mapping[str, int]
NO_CLASSES: tuple[str, ...] = ()
NO_COUNTS: Counts = {}


class Options(Config):
    """What every source that reads a raw tree asks for; each source adds what it uses itself."""

    raw: Path = Field(description="the raw archive: the folder with its tables")


class Traits(Config):
    """What those who use a prepared folder must know of its source; it stands in ``index.json``."""

    exclusive: bool = False  # the classes exclude each other
    patients: Literal["patients", "studies", "images"] = "patients"  # what a patient id really identifies
    uncertainty: str = ""  # what uncertain labels become, in words
    test_sets: tuple[str, ...] = ("test",)
    masks: bool = False  # masks are drawn from the annotations
    projections: tuple[str, ...] | None = None  # selected by default at training and evaluation; None: all of them
    prompts: str = ""  # name of a file of built-in prompts (inference/prompt_files/NAME.yaml)
    tone: str = "unknown"
    population: str = ""  # whose patients these are: ids of sources of one population name the same patients


class Source(NamedTuple):
    """``records`` yields a Record for every usable image, an Excluded for each other; UserError for a wrong tree.

    Each record has one label for every class, NaN where unknown, or none at all.
    """

    records: Callable[[Any], Iterator[Record | Excluded]]
    Options: type[Any]
    classes: tuple[str, ...] | Callable[[Any], tuple[str, ...]] = NO_CLASSES  # the order of the label vector
    signs: tuple[tuple[str, ...], ...] = ()  # glob patterns; a tree that matches all of one tuple is of this source
    expected: Counts | Callable[[Any], Counts] = NO_COUNTS  # published, for doctor, of the default projections
    traits: Traits | Callable[[Any], Traits] = Traits()
    tables: tuple[str, ...] = ()  # glob patterns of tables below ``raw`` whose digests are recorded as well

    def classes_of(self, options: Config) -> tuple[str, ...]:
        return self.classes(options) if callable(self.classes) else self.classes

    def expected_of(self, options: Config) -> Counts:
        return self.expected(options) if callable(self.expected) else self.expected

    def traits_of(self, options: Config) -> Traits:
        return self.traits if isinstance(self.traits, Traits) else self.traits(options)


def find_source(name: str) -> Source:
    """The built-in source of this name, else the installed one; UserError lists the names."""
    installed = _installed()
    if name in BUILT_IN:
        source: Any = import_module(f"{__name__}.{name.replace('-', '_')}").SOURCE
        return source
    if name not in installed:
        raise UserError(f"no source {name!r}: choose among {', '.join(source_names())}")
    try:
        source = installed[name].load()
    except (ImportError, AttributeError) as error:
        raise UserError(f"source {name!r} ({installed[name].value}) cannot be loaded: {error}") from error
    if not isinstance(source, Source):
        raise UserError(f"source {name!r} ({installed[name].value}) is a {type(source).__name__}, not a Source")
    return source


def source_names() -> list[str]:
    """The built-in sources and the installed ones."""
    return [*sorted(BUILT_IN), *sorted(_installed())]


@cache
def _installed() -> dict[str, EntryPoint]:
    """The entry points of other packages; a built-in source keeps its name."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    for name in sorted(found.keys() & set(BUILT_IN)):
        log.warning("the source %s of %s is ignored: a built-in source has this name", name, found.pop(name).value)
    return found
