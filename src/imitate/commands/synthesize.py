"""``imitate synthesize``: synthetic raw archives."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

from imitate.errors import UserError
from imitate.names import AnyPath, Language

log = logging.getLogger(__name__)


def synthesize(
    source: str, /, *, out: AnyPath, n: int = 200, seed: int = 0, size: int = 256, language: Language = "en"
) -> None:
    """Write synthetic radiographs in the original layout of a source, with tables and reports.

    Args:
        source: Any source of `imitate prepare`, except dicomweb and synthetic.
        out: The folder to write, new or empty.
        n: Number of images.
        seed: Seed of the patients.
        size: Height of the images, in pixels.
        language: Only for table: en, de or es, for reports, columns and labels.
    """
    from imitate.config import validate
    from imitate.data.progress import log_counts
    from imitate.data.records import Excluded, Record
    from imitate.sources import find_source
    from imitate.synthetic.layouts import LAYOUTS
    from imitate.synthetic.table_layout import table_options, write_table

    if source not in LAYOUTS:
        raise UserError(f"no synthetic archive for {source}: choose one of {', '.join(LAYOUTS)}")
    if n < 1:
        raise UserError(f"--n {n}: give 1 or more images")
    options: dict[str, Any] = {}
    if language == "en":
        LAYOUTS[source](Path(out), n=n, seed=seed, size=size)
    elif source == "table":
        write_table(Path(out), n=n, seed=seed, size=size, language=language)
        options = table_options(language)
        log.info("imitate prepare table --raw %s --out FOLDER %s", out, _flags(options))
    else:
        raise UserError(
            f"--language {language}: {source} is published in English: only the source table has other languages"
        )
    origin = find_source(source)
    found = list(origin.records(validate(origin.Options, {"raw": out, **options}, where=source)))
    log.info("%s: %d records", out, len(found))
    log_counts(
        split=Counter(record.split for record in found if isinstance(record, Record)),
        projection=Counter(record.projection or "unknown" for record in found if isinstance(record, Record)),
        excluded=Counter(record.reason for record in found if isinstance(record, Excluded)),
    )


def _flags(options: dict[str, Any]) -> str:
    """As one would type them."""
    import shlex

    values = {name: [value] if isinstance(value, str) else value for name, value in options.items()}
    return " ".join(f"--{name.replace('_', '-')} {shlex.join(value)}" for name, value in values.items())
