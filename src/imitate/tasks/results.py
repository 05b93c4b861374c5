"""Results files: a JSON, and beside it the predictions that comparisons and plots are made from.

One results file holds one or several fits. Its lists ``seeds``, ``per_seed``, ``fits`` and ``weights`` have one entry a
fit, and so have the arrays of the predictions, which are named ``<seed>/<field>``. ``fits`` says which fits share a
pre-trained encoder: of three runs with three heads each, the seeds are 0 to 8, ``run`` is 0, 0, 0, 1, 1, 1, 2, 2, 2 and
``head`` 0, 1, 2, 0, 1, 2, 0, 1, 2. Heads vary within runs, so that they are resampled as nested in them.

While an evaluation runs, the predictions of each finished fit wait in FILE.fits, under the digest of all that they
depend on: the same evaluation started again continues from them.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imitate.config import validate
from imitate.errors import UserError
from imitate.tasks.base import Predictions, Results

FITS = ".fits"


def check_out(path: Path) -> Path:
    """UserError where a JSON cannot be written; asked before the work, not after it."""
    if path.suffix != ".json":
        raise UserError(f"out {path} must be the path of a .json file, e.g. {path / 'results.json'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write into {path.parent}: {error.strerror}") from error
    return path


def write_results(results: Results, runs: Sequence[Predictions], path: Path) -> Results:
    """Predictions first, then the JSON that names them, each whole or not at all."""
    arrays = {
        f"{seed}/{field}": array for seed, run in zip(results.seeds, runs, strict=True) for field, array in run.items()
    }
    beside = path.with_suffix(".npz")
    _write_arrays(beside, arrays)
    results = results.model_copy(update={"predictions": beside.name})
    write_text(path, results.model_dump_json(indent=1))
    shutil.rmtree(path.with_suffix(FITS), ignore_errors=True)
    return results


def keep_fit(path: Path, digest: str, run: Predictions) -> None:
    """The predictions of one fit of the results that will be at ``path``, until these are written."""
    path.with_suffix(FITS).mkdir(exist_ok=True)
    _write_arrays(path.with_suffix(FITS) / f"{digest}.npz", run)


def kept_fit(path: Path, digest: str) -> Predictions | None:
    """None where a fit of this digest was not finished."""
    file = path.with_suffix(FITS) / f"{digest}.npz"
    if not file.is_file():
        return None
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def digest_of(*parts: Any) -> str:
    """SHA-256 of values that JSON can write."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def read_results(path: Path) -> Results:
    """Raises UserError where the file is absent or is no results file."""
    return validate(Results, read_json(path, "imitate evaluate"), where=str(path))


def read_json(path: Path, command: str) -> dict[str, Any]:
    """The object in a file that this command writes; UserError for anything else."""
    if not path.is_file():
        raise UserError(f"no results at {path}: write them with `{command} ... --out {path}`")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: give a file that `{command}` wrote") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a results file: give one that `{command}` wrote")
    return values


def read_predictions(results: Results, path: Path) -> list[Predictions]:
    """Each seed's predictions, from beside the results file at ``path``."""
    beside = path.with_name(Path(results.predictions or path.with_suffix(".npz")).name)
    if not beside.is_file():
        raise UserError(
            f"the predictions {beside.name} of {path} are missing: keep the two together, or evaluate again"
        )
    with np.load(beside, allow_pickle=False) as arrays:
        names = [name.split("/", 1) for name in arrays.files]
        return [
            {field: arrays[f"{seed}/{field}"] for owner, field in names if owner == str(seed)} for seed in results.seeds
        ]


def file_digest(path: Path) -> str:
    """SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Whole or not at all."""
    _partial(path).write_text(text + "\n", encoding="utf-8")
    _partial(path).replace(path)


def commit() -> str | None:
    """Of the checkout that this code runs from, apart from changes since.

    Of a copy without .git, or an installed package: the value of the environment variable IMITATE_COMMIT, or None.
    """
    return _head(Path(__file__).parents[3]) or os.environ.get("IMITATE_COMMIT")


def _head(root: Path) -> str | None:
    try:
        git = root / ".git"
        if git.is_file():  # of a second working tree
            git = root / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head
        branch = head.removeprefix("ref: ")
        if (git / "commondir").is_file():
            git /= (git / "commondir").read_text(encoding="utf-8").strip()
        if (git / branch).is_file():
            return (git / branch).read_text(encoding="utf-8").strip()
        packed = (git / "packed-refs").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.split()[0] for line in packed if line.endswith(f" {branch}")), None)


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def _write_arrays(path: Path, arrays: Predictions) -> None:
    assert not any(array.dtype.hasobject for array in arrays.values()), "predictions hold Python objects"
    with _partial(path).open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    _partial(path).replace(path)
