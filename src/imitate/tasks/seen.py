"""A warning where what is tested was trained on."""

import logging

import numpy as np

from imitate.data.corpus import Corpus
from imitate.data.overlap import Keys, keys_of, shared, trained_on
from imitate.tasks.record import Job

log = logging.getLogger(__name__)


def warn_of_seen(job: Job) -> None:
    """One line for each model, and for the folder of the heads, that has seen patients or images that are tested.

    A model that does not know what it was trained on, such as an exported one, says nothing.
    """
    known = {f"{model} was trained on": trained_on(model) for model in job.measured.models}
    if job.data.test is not None and job.task.trains:
        train = job.task.selected(job.data.train)
        fitted = np.flatnonzero(train.table["split"].isin(["train", "val"]))
        known[f"{train.root}, on which heads are fitted, has"] = keys_of(train, fitted)
    if not any(known.values()):
        return
    tested = job.task.selected(job.data.test or job.data.train)
    rows, split = _tested(job, tested)
    for start, keys in known.items():
        if keys is not None and (said := _words(tested, rows, keys)):
            log.warning("%s %s of %s%s: metrics will be too optimistic", start, said, tested.root, split)


def _tested(job: Job, data: Corpus) -> tuple[np.ndarray, str]:
    """The rows, and their split in words."""
    if getattr(job.task, "folds", 0):
        return np.arange(len(data)), ""
    split = str(getattr(job.task, "split", "test"))
    return np.flatnonzero(data.table["split"].to_numpy() == split), f", split {split}"


def _words(data: Corpus, rows: np.ndarray, keys: Keys) -> str:
    counts = shared(data, rows, keys)
    if not any(found for found, _ in counts.values()):
        return ""
    return " and ".join(f"{found:,} of the {of:,} {name}" for name, (found, of) in counts.items() if of)
