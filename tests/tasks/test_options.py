"""The settings that a task has where nothing is said, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from imitate.tasks import find_task
from imitate.tasks.detection_matching import RATES
from imitate.tasks.measuring import VERSIONS
from imitate.tasks.options import OPTIONS, Fitting, LinearOptions, TaskOptions
from imitate.tasks.retrieval import PERMUTATIONS
from imitate.tasks.retrieval_ranking import PRECISION_AT

FITTING = {
    "learning_rate": 5e-4, "weight_decay": 1e-6, "batch_size": 48, "epochs": 50, "patience": 10, "steps": 0,
    "schedule": "constant", "warmup": 0.0, "layer_decay": 1.0,
}  # fmt: skip
CLASSES = {"split": "test", "macro_least": 1, "unit": "image"}
DENSE = {"split": "test", "freeze": True, "image_size": None}
DEFAULTS: dict[str, dict[str, Any]] = {
    "linear-classification": {
        **FITTING, **CLASSES, "path": "cached", "decays": (10.0, 1.0, 0.1, 0.01, 0.001, 0.0001), "augmentation": "crop",
        "folds": 0,
    },
    "knn-classification": {**CLASSES, "folds": 0, "neighbours": (5, 10, 20, 50, 100, 200), "temperature": 0.07},
    "finetune-classification": {
        **FITTING, **CLASSES, "learning_rate": 3e-4, "weight_decay": 0.05, "schedule": "cosine", "warmup": 0.05,
        "layer_decay": 0.85, "encoder_rate": 1.0, "period": 0, "clip_gradient": None, "augmentation": "jitter",
        "monitor": "loss", "head_std": 0.02,
    },
    "segmentation": {
        **FITTING, **DENSE, "learning_rate": 2e-4, "weight_decay": 0.05, "batch_size": 16, "width": 256,
        "balanced": None, "augment": 0.5, "scale": 0.1, "rotation": 10.0, "tolerance": 2.0, "flip": 0.0,
        "decoder": "unet", "loss": "focal-dice", "monitor": "loss",
    },
    "detection": {**FITTING, **DENSE, "batch_size": 16, "width": 512, "confidence": None},
    "retrieval": {"split": "test", "followups": "wrong"},
    "zero-shot": {
        **CLASSES, "branch": "both", "prompts": None, "ensemble": "embedding", "scoring": "margin",
        "threshold": "oracle", "authors": False, "language": None,
    },
    "grounding": {
        "split": "test", "texts": "phrases", "average": "phrases", "branch": "both", "map": "default", "prompts": None,
        "language": None,
    },
    "calibration": {
        "split": "test", "macro_least": 1, "calibrator": "platt", "aim": "sensitivity", "at": 0.9, "prevalence": (),
        "benefit": (0.02, 0.5), "branch": "both", "prompts": None,
    },
}  # fmt: skip
MEASURING = {
    "linear-classification": {"macro_least", "unit", "folds"},
    "knn-classification": {"macro_least", "unit", "folds"},
    "finetune-classification": {"macro_least", "unit"},
    "segmentation": {"labels", "tolerance"},
    "detection": {"labels", "confidence"},
    "retrieval": {"followups"},
    "zero-shot": {"macro_least", "unit", "threshold"},
    "grounding": {"texts", "average"},
    "calibration": {"macro_least", "aim", "at", "prevalence"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_defaults(name: str) -> None:
    options = OPTIONS[name]
    assert options().model_dump() == {"projections": None, **DEFAULTS[name]}
    assert options.measuring == {"split", "projections", *MEASURING[name]}


@pytest.mark.parametrize("name", ["segmentation", "detection"])
def test_labels_are_written_where_they_are_named_alone(name: str) -> None:
    """The digest of results without them stays what it was."""
    options = OPTIONS[name]
    assert vars(options())["labels"] == () and "labels" not in options().model_dump(mode="json")
    named = options.model_validate({"labels": ["Edema"]})
    assert named.model_dump(mode="json")["labels"] == ["Edema"]
    assert named.used("clean", image_size=32)["labels"] == ["Edema"]
    assert options.model_validate(named.model_dump(mode="json")) == named


@pytest.mark.parametrize("name", OPTIONS)
def test_the_bounds(name: str) -> None:
    """The least and the largest value that is taken, and the next ones that are not; None: any."""
    small = 1e-9
    bounds: dict[str, tuple[Any, Any, Any, Any]] = {
        "learning_rate": (small, 0, 9.0, None), "weight_decay": (0, -small, 9.0, None), "batch_size": (1, 0, 99, None),
        "epochs": (1, 0, 999, None), "patience": (1, 0, 999, None), "steps": (0, -1, 999, None),
        "warmup": (0, -small, 1 - small, 1), "layer_decay": (small, 0, 1, 1 + small), "macro_least": (1, 0, 99, None),
        "decays": ((small,), (), (9.0, 1.0), (1.0, 0.0)), "folds": (0, -1, 9, None),
        "neighbours": ((1,), (), (3, 2), (1, 0)), "temperature": (small, 0, 9.0, None), "tolerance": (0, -small, 9.0, None),
        "image_size": (32, 31, 999, None), "width": (16, 15, 999, None) if name == "segmentation" else (4, 3, 9, None),
        "encoder_rate": (small, 0, 1, 1 + small), "period": (0, -1, 9999, None), "clip_gradient": (small, 0, 9.0, None),
        "head_std": (small, 0, 9.0, None), "flip": (0, -small, 1, 1 + small),
        "augment": (0, -small, 1, 1 + small), "scale": (0, -small, 1 - small, 1), "confidence": (small, 0, 1 - small, 1),
        "at": (small, 0, 1 - small, 1), "benefit": ((0.1, 0.2), (0.2, 0.1), (0.001, 0.999), (0.5, 1.0)),
        "prevalence": (("0.001",), ("0",), ("Edema=0.999",), ("Edema=1",)),
    }  # fmt: skip
    for field in bounds.keys() & DEFAULTS[name].keys():
        for taken in bounds[field][::2]:
            assert getattr(OPTIONS[name].model_validate({field: taken}), field) == taken
        for refused in bounds[field][1::2]:
            if refused is not None:
                with pytest.raises(ValidationError, match=field):
                    OPTIONS[name].model_validate({field: refused})


def test_what_runs_is_reported_without_what_has_no_effect() -> None:
    def used(name: str, mode: Any = "clean", **settings: Any) -> dict[str, Any]:
        return OPTIONS[name].model_validate(settings).used(mode, image_size=224)

    linear = {"projections", "split", "macro_least", "unit", "path", "folds"}
    assert used("linear-classification").keys() == linear | {"decays"}
    assert used("linear-classification")["path"] == "cached"
    for found in (used("linear-classification", "paper"), used("linear-classification", path="augmented")):
        assert found.keys() == linear | FITTING.keys() | {"augmentation"} and found["path"] == "augmented"
    assert used("segmentation")["image_size"] == 224 and used("segmentation", image_size=64)["image_size"] == 64
    assert [used("segmentation", balanced=value)["balanced"] for value in (None, False, True)] == [False, False, True]
    assert [used("detection", mode)["confidence"] for mode in ("clean", "paper")] == [0.05, 0.5]
    assert used("detection", "paper", confidence=0.2)["confidence"] == 0.2
    assert used("zero-shot", prompts=Path("a/b.yaml"))["prompts"] == str(Path("a/b.yaml"))
    assert Fitting.model_fields.keys() - TaskOptions.model_fields.keys() == FITTING.keys()
    assert LinearOptions().used("clean", image_size=9)["decays"] == [10.0, 1.0, 0.1, 0.01, 0.001, 0.0001]


def test_thresholds_that_cannot_be_are_refused() -> None:
    options = OPTIONS["zero-shot"]
    for scoring in ("positive", "standardised"):
        with pytest.raises(ValidationError, match=f"threshold even is a margin of 0, which scoring {scoring} does not"):
            options.model_validate({"threshold": "even", "scoring": scoring})
        options.model_validate({"threshold": "val", "scoring": scoring})
    with pytest.raises(ValidationError, match="threshold val would be chosen on the test images"):
        options.model_validate({"threshold": "val", "split": "val"})
    options.model_validate({"threshold": "oracle", "split": "val"})
    options.model_validate({"threshold": "even"})


def test_a_calibration_is_not_measured_where_it_was_fitted_and_costs_may_be_any() -> None:
    options = OPTIONS["calibration"]
    with pytest.raises(ValidationError, match="the calibration is fitted on split val"):
        options.model_validate({"split": "val"})
    assert options.model_validate({"aim": "cost", "at": 20}).model_dump()["at"] == 20
    found = options.model_validate({"prevalence": ("0.05", "Edema=0.2")})
    assert [found.prevalence_of(name) for name in ("Edema", "Mass")] == [0.2, 0.05]  # type: ignore[attr-defined]
    assert options().prevalence_of("Mass") is None  # type: ignore[attr-defined]
    with pytest.raises(ValidationError, match="prevalence '5%': write a fraction between 0 and 1"):
        options.model_validate({"prevalence": ("5%",)})


def test_what_tables_say_of_a_task() -> None:
    """Tables, plots and results files of users depend on these words."""
    classes = ("auroc", ("accuracy",), frozenset({"labels"}))
    ways = [(way, k) for way in ("image-to-text", "text-to-image") for k in (1, 5, 10)]
    recalls = tuple(f"recall@{k}/both/{way}" for way, k in ways)
    expected = {
        "linear-classification": classes,
        "finetune-classification": classes,
        "knn-classification": classes,
        "zero-shot": ("auroc", ("average-precision", "accuracy"), frozenset({"labels", "text"})),
        "segmentation": ("dice", ("dice_positives", "false_positive_rate"), frozenset({"masks"})),
        "detection": ("map", ("froc",), frozenset({"boxes"})),
        "retrieval": ("mean-recall", recalls, frozenset({"reports", "text"})),
    }
    tasks = {name: find_task(name) for name in expected}
    assert {name: (task.headline, task.beside, task.needs) for name, task in tasks.items()} == expected
    named = {
        "f1": "F1",
        "balanced-accuracy": "balanced accuracy",
        "mcc": "Matthews correlation",
        "threshold-balanced-accuracy": "balanced accuracy at the threshold",
        "threshold-mcc": "Matthews correlation at the threshold",
    }
    assert tasks["linear-classification"].names == named
    assert tasks["zero-shot"].names == named | {
        "oracle-max-f1": "F1 at the best threshold (oracle)",
        "oracle-accuracy": "accuracy at the best F1 (oracle)",
        "oracle-balanced-accuracy": "balanced accuracy at the best F1 (oracle)",
        "oracle-mcc": "Matthews correlation at the best F1 (oracle)",
        "threshold-accuracy": "accuracy at the threshold",
    }
    assert tasks["detection"].names == {
        "map": "mAP, IoU .40 to .75",
        "map_coco": "mAP, IoU .50 to .95",
        "ap50": "AP, IoU .50",
        "map_paper": "mAP as published",
        "froc": "FROC sensitivity",
        "image_auroc": "AUROC of whole images",
        "kaggle": "challenge metric of RSNA",
    }
    assert {key: tasks["zero-shot"].units[key] for key in ("mcc", "threshold-mcc", "oracle-mcc")} == dict.fromkeys(
        ("mcc", "threshold-mcc", "oracle-mcc"), "%"
    )
    assert {name: task.title for name, task in tasks.items()} == {
        "linear-classification": "Linear classification",
        "finetune-classification": "Fine-tuned classification",
        "knn-classification": "k-nearest-neighbour classification",
        "zero-shot": "Zero-shot classification",
        "segmentation": "Segmentation",
        "detection": "Detection",
        "retrieval": "Retrieval",
    }
    assert OPTIONS.keys() >= expected.keys() and RATES == (0.125, 0.25, 0.5, 1, 2, 4, 8)
    assert PRECISION_AT == (1, 5, 10, 50, 100) and PERMUTATIONS == 5
    assert VERSIONS == ("imitate-cxr", "torch", "timm", "numpy", "scikit-learn")
    assert tasks["segmentation"].larger_is_better == {"false_positive_rate": False, "hd95": False}
    assert tasks["detection"].paper_headline == "map_paper"
    assert tasks["segmentation"].paper_headline == "dice_batched" and tasks["segmentation"].units == {"hd95": "px"}
    assert tasks["segmentation"].names == {
        "dice": "Dice",
        "dice_positives": "Dice, positives only",
        "dice_micro": "Dice, all pixels together",
        "dice_classes": "Dice, mean of target and background",
        "dice_batched": "Dice, mean of batches",
        "false_positive_rate": "false-positive rate",
        "iou": "IoU",
        "iou_positives": "IoU, positives only",
        "hd95": "HD95 in px, positives only",
        "surface_dice": "surface Dice, positives only",
    }
