"""What prepared folders that are examined together have in common."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from imitate.data.corpus import Corpus
from imitate.data.overlap import keys_of, shared
from imitate.doctor.checks import Check
from imitate.errors import UserError


def examine_overlap(folders: Sequence[Path]) -> Iterator[Check]:
    """One check for each two folders: a warning if one trains on what the other holds out."""
    opened = []
    for folder in folders:
        try:
            opened.append(Corpus.open(folder))
        except UserError:  # said of the folder itself
            continue
    for first, second in combinations(opened, 2):
        counts = shared(second, np.arange(len(second)), keys_of(first, np.arange(len(first))))
        found = " and ".join(f"{count:,} {name}" for name, (count, _) in counts.items())
        leaks = [*_leaks(first, second), *_leaks(second, first)]
        said = f"{found} in common" + (f"; {'; '.join(leaks)}" if leaks else "")
        yield Check("warn" if leaks else "ok", f"{first.root} and {second.root}", said)


def _leaks(train: Corpus, test: Corpus) -> Iterator[str]:
    """How much of what ``test`` holds out ``train`` trains on."""
    trains, holds = (data.table["split"].to_numpy() == "train" for data in (train, test))
    counts = shared(test, np.flatnonzero(~holds), keys_of(train, np.flatnonzero(trains)))
    found = " and ".join(f"{count:,} {name}" for name, (count, _) in counts.items() if count)
    if found:
        yield f"{train.root} trains on {found} that {test.root} holds out"
