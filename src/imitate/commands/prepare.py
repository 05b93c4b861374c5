"""``imitate prepare``: raw archives to prepared folders."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from imitate.commands import engine
from imitate.errors import UserError
from imitate.names import AnyPath, Names, Resize, several

if TYPE_CHECKING:
    from imitate.config import Config
    from imitate.data.shards import Settings
    from imitate.sources import Source

TABLES = (".csv", ".csv.gz", ".tsv", ".parquet", ".xlsx")


def choices() -> list[str]:
    from imitate.sources import source_names

    return source_names()


def options(words: list[str]) -> "type[Config] | None":
    """Those of the source that is named first."""
    from imitate.sources import find_source

    if not words or words[0] in ("-h", "--help"):
        return None
    if words[0].startswith("-"):
        raise UserError(f"name the source before {words[0]}: imitate prepare SOURCE --raw RAW --out FOLDER")
    return find_source(words[0]).Options


def prepare(
    source: str,
    /,
    *,
    out: AnyPath,
    size: int = 256,
    resize: Resize = "stretch",
    projections: Names = (),
    percentiles: tuple[float, float] | None = None,
    tone: Literal["stored", "equalize"] = "stored",
    from_header: Names = (),
    workers: int | None = None,
    append: bool = False,
    check: bool = False,
    part: str = "1/1",
    cluster: str | None = None,
    **options: Any,
) -> dict[str, Any] | None:
    """Turn a raw archive into a prepared folder. To resume an interrupted command, run it again.

    Put the source first; `imitate prepare SOURCE --help` also lists the options of the source. From Python::

        import imitate

        imitate.prepare("open-i", raw="archives/open-i", out="data/open-i", size=256)

    Args:
        source: The data set or kind of archive.
        out: The prepared folder to write.
        size: Side of the prepared images, in pixels.
        resize: stretch ignores the aspect ratio; letterbox keeps it and pads with black; the others are rules of
            published encoders (`imitate models FILE` says which).
        projections: Projections to decode, such as PA AP; default: all. Training and evaluation select among them.
        percentiles: Two percentiles, such as 0.5 99.5; gray values beyond them become black or white.
        tone: equalize equalises the histogram of every image, as in MIMIC-CXR-JPG and CheXpert.
        from_header: Elements of DICOM headers to read, such as PatientSex PatientAge; default: none, since headers are
            personal data. They fill in values that are blank in the tables.
        workers: Number of decoding processes; default: one for each core, fewer for a small archive.
        append: Add the records that are new in the archive to an existing prepared folder.
        check: Read the tables and decode a sample of the images, without writing anything.
        part: i/n for the i-th of n jobs that share the work.
        cluster: Address of a Dask scheduler whose workers decode the images.

    Returns:
        The content of index.json; None after a check, or if other parts still have shards to write.
    """
    from imitate.data.writer import Archive, check_records, write_folder
    from imitate.sources import find_source

    origin = find_source(source)
    chosen = _chosen(origin, source, options)
    values = {"source": source, "size": size, "resize": resize, "percentiles": percentiles}
    named = {"projections": several(projections) or None, "from_header": several(from_header) or None}
    settings = _settings(origin, chosen, {**values, **named, "equalized": tone == "equalize" or None})
    with _raw(chosen) as (root, chosen):
        archive = Archive(root, origin.traits_of(chosen).model_dump(mode="json"), _inputs(chosen, origin.tables))
        if check:
            return check_records(origin.records(chosen), settings, archive=archive).log()
        processes, records = engine(workers, part, cluster), origin.records(chosen)
        return write_folder(records, Path(out), settings, archive=archive, engine=processes, append=append)


def _settings(origin: "Source", chosen: "Config", values: dict[str, Any]) -> "Settings":
    from imitate.config import validate
    from imitate.data.shards import Settings

    whole = {**values, "classes": origin.classes_of(chosen), **_recorded(chosen)}
    return validate(Settings, whole, where=values["source"])


def _chosen(origin: "Source", source: str, options: dict[str, Any]) -> "Config":
    from imitate.config import validate

    field = origin.Options.model_fields.get("raw")
    if field and field.is_required() and options.get("raw", Path()) in (Path(), ""):
        raise UserError(
            f"--raw is missing: give the folder of the {source} archive (for the current folder: --raw $PWD)"
        )
    chosen: Config = validate(origin.Options, options, where=source)
    return chosen


def _recorded(chosen: "Config") -> dict[str, Any]:
    """``mode`` and ``options`` of the folder's settings: of paths the names, as another machine has them elsewhere."""
    values = chosen.model_dump(mode="json", exclude={"mode", "raw"}, exclude_none=True)
    names = {key: Path(value).name for key, value in values.items() if isinstance(getattr(chosen, key), Path)}
    return {"mode": getattr(chosen, "mode", "clean"), "options": values | names}


def _inputs(chosen: "Config", tables: tuple[str, ...] = ()) -> dict[str, str]:
    """SHA-256 of the files that the recorded options name, of the tables in the folders that they name, and of the
    source's."""
    from imitate.config.digests import sha256

    fields = type(chosen).model_fields
    paths = [value for name, value in vars(chosen).items() if isinstance(value, Path) and not fields[name].exclude]
    found = [each for path in paths if path.is_dir() for each in path.iterdir() if each.name.lower().endswith(TABLES)]
    raw = getattr(chosen, "raw", None)
    found += [each for pattern in tables for each in raw.glob(pattern)] if isinstance(raw, Path) else []
    return {path.name: sha256(path) for path in (*paths, *found) if path.is_file()}


@contextmanager
def _raw(chosen: "Config") -> "Iterator[tuple[Path, Config]]":
    """The folder of the archive, and the options; a source that makes its images gets a folder for the time."""
    from tempfile import TemporaryDirectory

    raw = getattr(chosen, "raw", None)
    if raw is not None:
        yield (raw.parent if raw.is_file() else raw), chosen
        return
    with TemporaryDirectory(prefix="imitate-") as folder:
        known = "raw" in type(chosen).model_fields
        yield Path(folder), chosen.model_copy(update={"raw": Path(folder)}) if known else chosen
