"""``imitate calibrate``: probabilities and thresholds from the scores of a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from imitate.names import AnyPath

if TYPE_CHECKING:
    from imitate.config import Config
    from imitate.tasks.base import Results


def options(words: list[str]) -> "type[Config]":
    from imitate.tasks.options import CalibrationOptions

    return CalibrationOptions


def calibrate(
    *,
    model: str | None = None,
    data: AnyPath | None = None,
    results: AnyPath | None = None,
    out: AnyPath,
    to: AnyPath | None = None,
    name: str | None = None,
    resamples: int = 1000,
    device: str = "auto",
    **options: Any,
) -> "Results":
    """Turn the scores of a model into probabilities and decisions, on validation images, and evaluate both on test.

    The calibration is stored beside the weights, where `imitate predict` and `imitate serve` find it;
    docs/calibration.md describes its limits. From Python::

        results = imitate.calibrate(model="runs/first", data="data/first", out="calibration.json", aim="specificity")
        results.metrics["brier"].value, results.metrics["brier-before"].value

    Args:
        model: The model whose zero-shot scores are calibrated: a run, a model folder, or with --to any other.
        data: The prepared folder; the calibration is fitted on its split val and evaluated on its split test.
        results: Instead of model and data: results of imitate evaluate for a classification, to calibrate its head.
        out: Results file, .json, for imitate report and compare; predictions go to a .npz next to it.
        to: Where to write the calibration, .json; default: calibration.json beside the weights, or beside --out.
            For results of several seeds it is FILE-0.json, FILE-1.json and so on.
        name: Name of this method in tables.
        resamples: Number of bootstrap samples for each interval.
        device: cpu, cuda, cuda:1, ...; auto takes a GPU if there is one.
    """
    from imitate.tasks.calibrating import Request, calibrate

    folder, measured, place = (None if each is None else Path(each) for each in (data, results, to))
    request = Request(None if model is None else str(model), folder, measured, place, name, options)
    return calibrate(request, out=Path(out), resamples=resamples, device=device)
