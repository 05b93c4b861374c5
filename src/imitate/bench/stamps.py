"""What a cell's results are of: a file beside them that says, without loading a model, whether they are still right."""

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from imitate.inference.encoder import TIMM, WORDS
from imitate.models import hub
from imitate.tasks.record import Job, digests
from imitate.tasks.results import digest_of, file_digest, write_text

SUFFIX = ".state"


class Kept(NamedTuple):
    """``lacks``: why there are no results; ``warnings`` that were given when they were made."""

    lacks: str
    warnings: tuple[str, ...]


def stamp(job: Job) -> dict[str, Any]:
    """Of command, code, data and weights."""
    plan, method = job.plan, job.measured
    return {
        **digests(job),
        "shown": digest_of(method.name, plan.headline, plan.model_dump(mode="json", include={"published", "data"})),
        "weights": [weights(model) for model in dict.fromkeys(method.models)],
        "fits": len(method.models),
        "like": weights(method.like) if method.like else "",
    }


def read(path: Path, wanted: dict[str, Any]) -> Kept | None:
    """Of the results at ``path``; None where they are of something else, or absent."""
    try:
        found = json.loads(path.with_suffix(SUFFIX).read_text(encoding="utf-8"))
        kept, digest = Kept(found.pop("lacks"), tuple(found.pop("warnings"))), found.pop("results")
    except (OSError, ValueError, KeyError):
        return None
    there = kept.lacks or (path.with_suffix(".npz").is_file() and digest == _results(path))
    return kept if there and found == wanted else None


def write(path: Path, stamp: dict[str, Any], *, lacks: str = "", warnings: Sequence[str] = ()) -> None:
    found = {**stamp, "results": _results(path), "lacks": lacks, "warnings": list(warnings)}
    write_text(path.with_suffix(SUFFIX), json.dumps(found, indent=1))


def _results(path: Path) -> str:
    """Of those that are there: a command that was killed may have left others than the stamp is of."""
    return file_digest(path) if path.is_file() else ""


def weights(model: str) -> str:
    """A digest of the files that decide what a model is; "" where there are none.

    UserError: a repository of the hub that cannot be fetched.
    """
    if model in WORDS or model.startswith(TIMM):
        return f"{model}, timm {version('timm')}"
    path = hub.local_folder(model) if model.startswith(hub.HUB) else Path(model)
    if path.is_file():  # what lies beside it may be its vocabulary; of other weights size and date are enough
        beside = [(each.name, *_date(each)) for each in sorted(path.parent.iterdir()) if each.is_file()]
        return digest_of(_digest(path, *_date(path)), beside)
    within = path / "model" if (path / "model").is_dir() else path  # not what a run says of itself
    texts = [within / "text", (hub.run_of(within) or within) / "text"] if hub.is_ours(path) else []
    files = [each for folder in dict.fromkeys((within, *texts)) if folder.is_dir() for each in sorted(folder.iterdir())]
    return digest_of([(each.name, _digest(each, *_date(each))) for each in files if _matters(each)]) if files else ""


def _date(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _matters(path: Path) -> bool:
    """Not the checkpoints and logs of a run."""
    return path.is_file() and path.suffix in {".safetensors", ".json", ".txt", ".bin", ".pt", ".pth", ".npz", ".model"}


@cache
def _digest(path: Path, size: int, date: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
