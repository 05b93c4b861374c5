"""The tasks that measure an encoder, by name; a task's module is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imitate.tasks.base import Task

TASKS: dict[str, str] = {
    "linear-classification": "classification.LinearClassification",
    "finetune-classification": "classification.FinetuneClassification",
    "segmentation": "segmentation.Segmentation",
    "detection": "detection.Detection",
    "retrieval": "retrieval.Retrieval",
    "zero-shot": "zero_shot.ZeroShot",
}
UNTRAINED: frozenset[str] = frozenset({"retrieval", "zero-shot"})


def task_class(name: str) -> type[Task]:
    module, attribute = TASKS[name].split(".")
    found: type[Task] = getattr(import_module(f"{__name__}.{module}"), attribute)
    return found
