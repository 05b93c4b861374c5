"""Fit on one prepared folder, test on another: patients of two hospitals as one corpus."""

from dataclasses import replace

import numpy as np

from imitate.data.corpus import Corpus, merge
from imitate.errors import UserError
from imitate.tasks.base import Task
from imitate.tasks.results import digest_of

TEST, UNUSED = "test", "unused"


def fitted_elsewhere(task: Task, train: Corpus, test: Corpus) -> tuple[Task, Corpus]:
    """The task as it runs, and its corpus: ``train`` and ``val`` of one folder, the task's split of the other.

    That split is called ``test`` there, whichever it is. Classes are matched by name; other ones take no part.

    UserError: the task trains nothing or cross-validates, the folders share no class, or are the same.
    """
    if not task.trains:
        raise UserError(f"{task.name} trains nothing: give {test.root} as the data, without test data")
    if getattr(task, "folds", 0):
        raise UserError("folds test on the images that they train on: omit folds or the test data")
    if train.fingerprint == test.fingerprint:
        raise UserError(f"{train.root} and {test.root} are the same folder: omit the test data")
    train, test = task.selected(train), task.selected(test)
    split: str = getattr(task, "split", TEST)
    both = merge([train, test])
    parts = np.full(len(both), UNUSED, dtype=object)
    for name in ("train", "val"):
        parts[np.flatnonzero(train.table["split"].to_numpy() == name)] = name
    parts[len(train) + test.rows(split)] = TEST
    digest = digest_of(train.fingerprint, test.fingerprint, split)
    table, meta = both.table.assign(split=parts), {**both.meta, "fingerprint": digest}
    if "labels" in task.needs:
        common = [name for name in train.classes if name in test.classes]
        if not common:
            raise UserError(
                f"{train.root} and {test.root} share no class ({', '.join(train.classes)}; {', '.join(test.classes)}): "
                "classes are matched by name"
            )
        labels = both.labels[:, [both.classes.index(name) for name in common]]
        table, meta = table.assign(labels=list(labels)), {**meta, "classes": common}
    changes = {name: value for name, value in (("split", TEST), ("projections", None)) if hasattr(task, name)}
    return task.model_copy(update=changes), replace(both, table=table, meta=meta)
