"""The settings of the built-in tasks, apart from their code: the command line shows them without importing torch."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_serializer, model_validator

from imitate.config import Config
from imitate.names import Aim, Branch, CalibrationMethod, HeatMap, Language, Mode


class TaskOptions(Config):
    measuring: ClassVar[frozenset[str]] = frozenset({"split", "projections"})
    """The settings that define what is measured: results that differ in one of them stand in different tables."""
    judging: ClassVar[frozenset[str]] = frozenset({"monitor", "loss"})
    """The settings that define the validation metric: those of fits that differ in one cannot be compared."""
    projections: tuple[str, ...] | None = None  # projections of the images to use; None: the default of the folder

    def used(self, mode: Mode, *, image_size: int) -> dict[str, Any]:
        """What runs in this mode: without settings that have no effect, with a value for those that are left open.

        ``image_size`` is the side of the encoder's own input.
        """
        return self.model_dump(mode="json")


class Fitting(TaskOptions):
    """How to fit: the fields that a task which trains inherits, with defaults of its own."""

    learning_rate: float = Field(5e-4, gt=0)
    weight_decay: float = Field(1e-6, ge=0)
    batch_size: int = Field(48, ge=1)
    epochs: int = Field(50, ge=1)
    patience: int = Field(10, ge=1)  # epochs without a better validation value after which training stops
    steps: int = Field(0, ge=0)  # minimum number of steps; epochs and patience are extended to reach it
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: float = Field(0.0, ge=0, lt=1)  # warm-up of the learning rate, as a fraction of all steps
    layer_decay: float = Field(1.0, gt=0, le=1)  # learning rate of each block relative to the next one


FITTING = frozenset(Fitting.model_fields) - frozenset(TaskOptions.model_fields)


class ClassificationOptions(TaskOptions):
    measuring: ClassVar[frozenset[str]] = TaskOptions.measuring | {"macro_least", "unit"}
    split: str = "test"
    macro_least: int = Field(1, ge=1)  # classes with fewer positive or negative test images are not in macro averages
    unit: Literal["image", "study"] = "image"  # unit of a score: each image, or each study (the mean over its images)


class ProbeOptions(ClassificationOptions):
    measuring: ClassVar[frozenset[str]] = ClassificationOptions.measuring | {"folds"}
    folds: int = Field(0, ge=0)  # 0: the folder's own splits


class LinearOptions(ProbeOptions, Fitting):
    path: Literal["cached", "augmented"] = "cached"
    # Weight decays to try
    decays: tuple[PositiveFloat, ...] = Field((10.0, 1.0, 0.1, 0.01, 0.001, 0.0001), min_length=1)
    augmentation: Literal["crop", "distort"] = "crop"  # if path is augmented; distort: flips and affine maps

    def used(self, mode: Mode, *, image_size: int) -> dict[str, Any]:
        path = "augmented" if mode == "paper" else self.path
        idle = {"decays"} if path == "augmented" else FITTING | {"augmentation"}
        found = {**super().used(mode, image_size=image_size), "path": path}
        return {name: value for name, value in found.items() if name not in idle}


class NearestOptions(ProbeOptions):
    neighbours: tuple[PositiveInt, ...] = Field((5, 10, 20, 50, 100, 200), min_length=1)  # numbers of neighbours to try
    temperature: float = Field(0.07, gt=0)  # the weight of a neighbour is exp(cosine / temperature)


class FinetuneOptions(ClassificationOptions, Fitting):
    learning_rate: float = Field(3e-4, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup: float = Field(0.05, ge=0, lt=1)
    layer_decay: float = Field(0.85, gt=0, le=1)
    encoder_rate: float = Field(1.0, gt=0, le=1)  # factor of the learning rate for the whole encoder
    period: int = Field(0, ge=0)  # period of the cosine schedule, in steps; 0: all steps
    clip_gradient: float | None = Field(None, gt=0)  # largest norm of the gradient
    # jitter: crops and contrast; resized: crops of any size, resized, and flips
    augmentation: Literal["jitter", "resized"] = "jitter"
    monitor: Literal["loss", "auroc"] = "loss"  # criterion on the validation images
    head_std: float = Field(0.02, gt=0)  # standard deviation of the initial weights of the head


class Dense(Fitting):
    """The settings of a task whose result is laid out in the image."""

    measuring: ClassVar[frozenset[str]] = Fitting.measuring | {"labels"}
    split: str = "test"
    labels: tuple[str, ...] = ()  # classes whose boxes and masks are the target; default: everything marked
    freeze: bool = True  # False: train the encoder as well
    image_size: int | None = Field(None, ge=32)  # side of the network's input; None: the encoder's own

    def used(self, mode: Mode, *, image_size: int) -> dict[str, Any]:
        return {**super().used(mode, image_size=image_size), "image_size": self.image_size or image_size}

    @model_serializer(mode="wrap")
    def _dump(self, dump: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Without labels where none are named: results of before they could be are the same."""
        found = dump(self)
        return found if self.labels else {name: value for name, value in found.items() if name != "labels"}


class SegmentationOptions(Dense):
    measuring: ClassVar[frozenset[str]] = Dense.measuring | {"tolerance"}
    learning_rate: float = Field(2e-4, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    batch_size: int = Field(16, ge=1)
    width: int = Field(256, ge=16)  # channels of the decoder's deepest block
    balanced: bool | None = None  # True: train on as many empty images as others, as published on SIIM
    augment: float = Field(0.5, ge=0, le=1)  # probability of a random scale and rotation
    scale: float = Field(0.1, ge=0, lt=1)
    rotation: float = 10.0  # degrees
    flip: float = Field(0.0, ge=0, le=1)  # probability of a horizontal flip
    decoder: Literal["unet", "upernet"] = "unet"
    loss: Literal["focal-dice", "cross-entropy"] = "focal-dice"
    monitor: Literal["loss", "dice"] = "loss"  # on validation; dice: mean of target and background
    tolerance: float = Field(2.0, ge=0)  # tolerance of the surface Dice, in pixels of the folder's masks

    def used(self, mode: Mode, *, image_size: int) -> dict[str, Any]:
        return {**super().used(mode, image_size=image_size), "balanced": bool(self.balanced)}


class DetectionOptions(Dense):
    measuring: ClassVar[frozenset[str]] = Dense.measuring | {"confidence"}
    batch_size: int = Field(16, ge=1)
    width: int = Field(512, ge=4)  # channels of the coarse head
    confidence: float | None = Field(None, gt=0, lt=1)  # lowest score of a detection; None: .05, in mode paper .5

    def used(self, mode: Mode, *, image_size: int) -> dict[str, Any]:
        floor = self.confidence or (0.5 if mode == "paper" else 0.05)
        return {**super().used(mode, image_size=image_size), "confidence": floor}


class RetrievalOptions(TaskOptions):
    measuring: ClassVar[frozenset[str]] = TaskOptions.measuring | {"followups"}
    split: str = "test"
    followups: Literal["wrong", "excluded"] = "wrong"  # excluded: not compared with other studies of the patient


class GroundingOptions(TaskOptions):
    measuring: ClassVar[frozenset[str]] = TaskOptions.measuring | {"texts", "average"}
    split: str = "test"  # all: every image, if the model was not trained on the folder
    texts: Literal["phrases", "classes"] = "phrases"  # classes: never the phrase of a mark, always its class
    average: Literal["phrases", "classes"] = "phrases"  # classes: mean of the means of the classes
    branch: Branch = "both"  # both: the mean of the cosines of both branches
    map: HeatMap = "default"  # gradient: HiResCAM; places, attention: for attention over positions
    prompts: Path | None = None  # YAML file, class: {positive: [...], negative: [...]}; default: built-in
    language: Language | None = None  # language of the built-in prompts; default: the reports'


class ZeroShotOptions(ClassificationOptions):
    measuring: ClassVar[frozenset[str]] = ClassificationOptions.measuring | {"threshold"}
    branch: Branch = "both"  # both: the mean of the cosines of both branches
    prompts: Path | None = None  # YAML, class: {positive: [...], negative: [...]}; default: the built-in ones
    language: Language | None = None  # language of the built-in prompts; default: the reports'
    # How the prompts of one side are combined: embedding: the mean of their embeddings; score: their mean cosine; max:
    # the best one
    ensemble: Literal["embedding", "score", "max"] = "embedding"
    # margin: cosine of the positive minus that of the negative prompts; positive: the positive ones alone;
    # standardised: these as z-scores over the test images
    scoring: Literal["margin", "positive", "standardised"] = "margin"
    authors: bool = False  # use the templates, ensemble and scoring of a published encoder's authors
    threshold: Literal["oracle", "val", "even"] = "oracle"  # best F1 on test, on val, or a margin of 0

    @model_validator(mode="after")
    def _has_a_threshold(self) -> "ZeroShotOptions":
        if self.threshold == "even" and self.scoring != "margin":
            raise ValueError(
                f"threshold even is a margin of 0, which scoring {self.scoring} does not have: choose another"
            )
        if self.threshold == self.split == "val":
            raise ValueError("threshold val would be chosen on the test images: use oracle, or another split")
        return self


class CalibrationOptions(TaskOptions):
    measuring: ClassVar[frozenset[str]] = TaskOptions.measuring | {"macro_least", "aim", "at", "prevalence"}
    split: str = "test"  # split to evaluate; the calibration is fitted on val
    macro_least: int = Field(1, ge=1)  # classes with fewer positive or negative test images are not in macro averages
    calibrator: CalibrationMethod = "platt"  # temperature fits one parameter for each class, platt two
    aim: Aim = "sensitivity"  # criterion for the threshold; youden: sensitivity + specificity
    at: float = Field(0.9, gt=0)  # the sensitivity or specificity to reach, or the cost of a miss in false alarms
    prevalence: tuple[str, ...] = ()  # also report PPV and NPV at 0.05, say, or Edema=0.1 Mass=0.02
    benefit: tuple[float, float] = (0.02, 0.5)  # range of probabilities of the decision curve
    branch: Branch = "both"  # both: the mean of the cosines of both branches
    prompts: Path | None = None  # YAML, class: {positive: [...], negative: [...]}; default: the built-in ones

    @model_validator(mode="after")
    def _is_possible(self) -> "CalibrationOptions":
        if self.split == "val":
            raise ValueError("the calibration is fitted on split val: measure another split")
        if self.aim in ("sensitivity", "specificity") and self.at >= 1:
            raise ValueError(f"at {self.at:g}: give a {self.aim} below 1, such as 0.9")
        if not 0 < self.benefit[0] < self.benefit[1] < 1:
            raise ValueError(f"benefit {self.benefit}: give two probabilities between 0 and 1, the lower one first")
        for each in self.prevalence:
            self._prevalence(each)
        return self

    def prevalence_of(self, name: str) -> float | None:
        """That of a class, or else of all."""
        given = dict(map(self._prevalence, self.prevalence))
        return given.get(name, given.get(""))

    @staticmethod
    def _prevalence(each: str) -> tuple[str, float]:
        name, _, value = each.rpartition("=")
        try:
            found = float(value)
        except ValueError:
            found = math.nan
        if not 0 < found < 1:
            raise ValueError(f"prevalence {each!r}: write a fraction between 0 and 1, as 0.05 or Edema=0.05")
        return name, found


OPTIONS: dict[str, type[TaskOptions]] = {
    "linear-classification": LinearOptions,
    "knn-classification": NearestOptions,
    "finetune-classification": FinetuneOptions,
    "segmentation": SegmentationOptions,
    "detection": DetectionOptions,
    "retrieval": RetrievalOptions,
    "zero-shot": ZeroShotOptions,
    "grounding": GroundingOptions,
    "calibration": CalibrationOptions,
}
