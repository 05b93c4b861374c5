"""``imitate synthesize``: raw archives out of nothing."""

import logging
from collections import Counter
from pathlib import Path

from imitate.data.prepared import Dropped, Record
from imitate.data.progress import log_counts
from imitate.errors import UserError
from imitate.names import SourceName
from imitate.sources import SourceOptions, dataset

log = logging.getLogger(__name__)


def synthesize(source: SourceName, /, *, out: Path, n: int = 200, seed: int = 0) -> None:
    """Write the official on-disk layout of a source, with synthetic radiographs.

    Args:
        source: Whose layout.
        out: The folder to write, empty or new.
        n: Number of images.
        seed: Another seed, other patients.
    """
    from imitate.synthetic.layouts import LAYOUTS

    if source not in LAYOUTS:
        raise UserError(f"no layout for {source}: choose among {', '.join(LAYOUTS)}")
    if n < 1:
        raise UserError(f"--n {n}: give 1 or more images")
    LAYOUTS[source](out, n=n, seed=seed)
    found = list(dataset(source).records(SourceOptions(raw=out)))
    log.info("%s: %d records", out, len(found))
    log_counts(
        split=Counter(record.split for record in found if isinstance(record, Record)),
        dropped=Counter(record.reason for record in found if isinstance(record, Dropped)),
    )
