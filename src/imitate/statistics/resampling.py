"""The bootstrap: what metrics would be with other patients. Everything is drawn from a seed."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Shaped

Distribution = Float[np.ndarray, "runs resamples"]
Resample = Callable[[np.ndarray], dict[str, np.ndarray]]
"""One run's metrics: ``counts`` (samples, rows) to named arrays (samples,), or of curves (samples, points)."""

CHUNK = 2**22  # cells of a count matrix held at once


def bootstrap(
    runs: Sequence[Resample],
    patients: Shaped[np.ndarray, " rows"],
    *,
    strata: Shaped[np.ndarray, " rows"] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Float[np.ndarray, "runs resamples *more"]]:
    """Each run's metrics with the patients drawn again, the same for all runs; NaN where a draw has no metric.

    A patient comes with all of their images. With ``strata``, of which each patient is in one, as many patients are
    drawn of each as it has. Calls with one seed draw the same patients, so that differences between them are paired.
    """
    names, owner = np.unique(patients, return_inverse=True)
    parts = np.zeros(len(owner)) if strata is None else strata
    members = [np.unique(owner[parts == part]) for part in np.unique(parts)]
    generator = np.random.default_rng(seed)
    size = max(1, CHUNK // len(patients))
    pieces: dict[str, list[np.ndarray]] = {}
    for start in range(0, resamples, size):
        shape = min(size, resamples - start)
        draws = [part[generator.integers(0, len(part), (shape, len(part)))] for part in members]
        drawn = np.concatenate(draws, axis=1) + len(names) * np.arange(shape)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=shape * len(names)).reshape(shape, -1)[:, owner]
        measured = [run(counts) for run in runs]
        for name in measured[0]:
            pieces.setdefault(name, []).append(np.stack([values[name] for values in measured]))
    return {name: np.concatenate(piece, axis=1) for name, piece in pieces.items()}
