"""``imitate demo``: the whole chain on synthetic data, from a publisher's layout to the HTML report."""

import logging
import shutil
import time
from importlib.resources import files
from pathlib import Path

from imitate.evaluate import evaluate
from imitate.prepare import prepare, synthesize
from imitate.pretrain import pretrain
from imitate.report import report
from imitate.types import UserError

log = logging.getLogger(__name__)

SIZE = 72
STUDIES, LABELLED = 1200, 700
MARK = ".imitate-demo"


def demo(*, out: Path = Path("demo"), threads: int | None = None) -> None:
    """Run the whole chain on synthetic data: archive, prepared folder, pre-training, five tasks, report.html.

    A few minutes on two cores, no network. Synthetic radiographs are drawings: the figures show that the chain works,
    not that the method does.

    Args:
        out: folder for everything; one that an earlier demo made is replaced.
        threads: compute threads.
    """
    started = time.monotonic()
    _clear(out)
    log.info("1/5  an archive in MIMIC-CXR's own layout, and radiographs with masks and boxes")
    synthesize("mimic-cxr", out=out / "raw", n=STUDIES)
    prepare("mimic-cxr", raw=out / "raw", out=out / "mimic-cxr", size=SIZE)
    prepare("synthetic", out=out / "labelled", size=SIZE, n=LABELLED, seed=1)
    log.info("2/5  pre-training")
    recipe = _recipe("tiny")
    pretrain(recipe, data=out / "mimic-cxr", out=out / "run", threads=threads)
    log.info("3/5  retrieval and zero-shot classification, beside the untrained model")
    for name, model, like in (("IMITATE", out / "run", None), ("untrained", "random", out / "run")):
        for task in ("retrieval", "zero-shot"):
            _measure(out, task, name=name, model=str(model), like=like, data=out / "mimic-cxr", split="test")
    log.info("4/5  linear probes at 10%% and 100%%, segmentation, detection, fine-tuning")
    for name, model, like in (
        ("IMITATE", out / "run", None), ("untrained", "random", out / "run"), ("24x24 pixels", "pixels", out / "run")
    ):  # fmt: skip
        for fraction in (0.1, 1.0):
            _measure(out, "linear-classification", name=name, model=str(model), like=like, fraction=fraction)
    for name, model, like in (("IMITATE", out / "run", None), ("untrained", "random", out / "run")):
        for task, short in (("segmentation", 6), ("detection", 6), ("finetune-classification", 3)):
            _measure(out, task, name=name, model=str(model), like=like, epochs=short)
    log.info("5/5  the report")
    page = out / "report.html"
    report(*sorted((out / "results").glob("*.json")), out=page, data=(out / "labelled", out / "mimic-cxr"))
    log.info("done in %.0f s: open %s", time.monotonic() - started, page)


def _measure(
    out: Path, task: str, *, name: str, model: str, like: Path | None, data: Path | None = None, **settings: object
) -> None:
    fraction = settings.pop("fraction", 1.0)
    slug = f"{task}-{name}-{fraction:g}".replace(" ", "-").lower()
    evaluate(
        task,
        model=(model,),
        data=data or out / "labelled",
        out=out / "results" / f"{slug}.json",
        like=None if like is None else str(like),
        fraction=fraction,
        name=name,
        set=tuple(f"{key}={value}" for key, value in settings.items()),
        resamples=200,
        cache=out / "cache",
    )


def _recipe(name: str) -> Path:
    """A recipe of the repository, or of the installed package."""
    beside = Path(__file__).parents[2] / "recipes" / f"{name}.yaml"
    return beside if beside.is_file() else Path(str(files("imitate") / "recipes" / f"{name}.yaml"))


def _clear(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()):
        if not (out / MARK).is_file():
            raise UserError(f"{out} holds files that no demo made: choose another --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()
