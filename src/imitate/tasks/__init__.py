"""The tasks that measure an encoder, by name: the built-in ones, and those of the entry-point group imitate.tasks."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from imitate.config import plugins
from imitate.errors import Lacking, UserError
from imitate.names import SECTIONS

if TYPE_CHECKING:
    from imitate.data.corpus import Corpus
    from imitate.inference.encoder import Encoder
    from imitate.tasks.base import Task
    from imitate.tasks.options import TaskOptions

TASKS: dict[str, str] = {
    "linear-classification": "classification.LinearClassification",
    "knn-classification": "knn.NearestClassification",
    "finetune-classification": "finetuning.FinetuneClassification",
    "segmentation": "segmentation.Segmentation",
    "detection": "detection.Detection",
    "retrieval": "retrieval.Retrieval",
    "zero-shot": "zero_shot.ZeroShot",
    "grounding": "grounding.Grounding",
    "calibration": "calibration.Recalibration",
}
"""In the order of a report's sections; a task's module is imported on first use."""
NEEDS = frozenset({"labels", "masks", "boxes", "phrases", "reports", "text"})
"""Of the folder; ``text`` is of the encoder."""


def task_names() -> list[str]:
    return [*TASKS, *(name for name in plugins("imitate.tasks") if name not in TASKS)]


def task_options(name: str) -> type[TaskOptions]:
    """The settings of a task; of a built-in one without importing torch."""
    from imitate.tasks.options import OPTIONS

    return OPTIONS[name] if name in OPTIONS else find_task(name)


def find_task(name: str) -> type[Task]:
    """UserError lists the names; also where a task of another package needs what is not known here."""
    if name in TASKS:
        module, attribute = TASKS[name].split(".")
        found: type[Task] = getattr(import_module(f"{__name__}.{module}"), attribute)
        return found
    others = plugins("imitate.tasks")
    if name not in others:
        raise UserError(f"there is no task {name!r}; there are {', '.join(task_names())}")
    found = others[name].load()
    if unknown := sorted(found.needs - NEEDS):
        raise UserError(f"task {name} needs {', '.join(unknown)}: a task can need {', '.join(sorted(NEEDS))}")
    return found


def check_data(task: Task, data: Corpus) -> None:
    """Lacking where the folder has not what the task needs."""
    from imitate.data.marks import marked

    has: dict[str, Callable[[], bool]] = {
        "boxes": lambda: bool(data.box_counts().any()),
        "labels": lambda: bool(data.classes),
        "masks": lambda: data.masks is not None,
        "phrases": lambda: bool(marked(data).any()),
        "reports": lambda: any(data.has(section).any() for section in SECTIONS),
    }
    for need in sorted(task.needs & has.keys()):
        if not has[need]():
            what = "phrases or classes with boxes or masks" if need == "phrases" else need
            raise Lacking(f"{task.name} needs {what}, but {data.root} has none: prepare a source that has them")


def check_encoder(task: Task, encoder: Encoder) -> None:
    """Lacking where the task compares images with text and the encoder has none."""
    from imitate.inference.peer import PeerEnsemble

    authors = getattr(task, "authors", False)
    if isinstance(encoder, PeerEnsemble) and not authors:
        raise UserError(
            f"{encoder.name} holds {len(encoder.checkpoints)} checkpoints, which only zero-shot --authors averages: "
            f"give one of them, such as {encoder.checkpoints[0]}"
        )
    if "text" in task.needs and not (encoder.has_text or (encoder.asks and authors)):
        raise Lacking(
            f"{task.name} compares images with text, but {encoder.lacks}: "
            "give the folder of a pre-training run, or random with --like RECIPE"
        )


def check_preparation(task: Task, encoder: Encoder, data: Corpus) -> None:
    """UserError where the folder holds images of another size; a task on whole images takes larger ones.

    A warning where a run learnt from images whose square, or whose black and white, were made in another way.
    """
    from imitate.data.corpus import Corpus
    from imitate.inference.encoder import ImitateEncoder
    from imitate.inference.tones import warn_of_preparation

    wanted = encoder.preprocessing
    whole = bool(task.needs & {"masks", "boxes"})
    Corpus.open(data.root, size=max(wanted.prepared_size, data.size) if whole else wanted.prepared_size)
    if not (isinstance(encoder, ImitateEncoder) and encoder.model.config.objective):
        return
    warn_of_preparation(data, encoder.name, wanted)
