"""Vectors or probabilities of any number of images, as Parquet files of 1,024 images each that are whole or absent.

The same command again writes those that are absent. A part depends on nothing but the settings and its number, so that
any process on any machine may write it. Research software, not a medical device.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from imitate.data.cluster import on_cluster
from imitate.data.corpus import Corpus
from imitate.data.jobs import Decoded, Job, Setup
from imitate.data.pool import Pool
from imitate.data.progress import progress
from imitate.data.shards import CHUNK_PIXELS, DECODER
from imitate.data.tone import is_flat
from imitate.data.worker import Failure
from imitate.data.writer import Engine
from imitate.errors import UserError
from imitate.inference import parts
from imitate.inference.embeddings import BATCH, embed_batch
from imitate.inference.gallery import image_vectors
from imitate.inference.predictor import POSITIVE, Predictor, Scorer, load
from imitate.inference.prompts import Wording
from imitate.inference.tones import warn_of_files, warn_of_tone
from imitate.names import Branch

log = logging.getLogger(__name__)


class Question(NamedTuple):
    """What to predict, by which model; prompts, temperature and language are those of ``Predictor.classify``."""

    action: Literal["classify", "embed"]
    model: str
    branch: Branch = "both"
    prompts: Mapping[str, Wording] | None = None
    temperature: float | None = None
    device: str = "auto"
    calibration: str | None = None  # a file; None: what lies beside the weights
    decide: bool = False  # with a column for each threshold
    language: str | None = None


class Plan(NamedTuple):
    """All that it takes to write any part."""

    question: Question
    identity: str  # of the encoder
    out: Path
    images: Path | None  # a folder of files, or
    data: Path | None  # a prepared folder


class Batch(NamedTuple):
    """Consecutive images of a part: where there is no reason, the next row of ``pixels`` is theirs."""

    part: int
    names: Sequence[str]
    reasons: Sequence[str | None]
    pixels: UInt8[np.ndarray, "readable size size"]


Compute = Callable[[UInt8[np.ndarray, "_ size size"]], Float32[np.ndarray, "_ width"]]


def predict_in_parts(
    question: Question, out: Path, *, images: Path | None = None, data: Path | None = None, engine: Engine | None = None
) -> bool:
    """Write the absent parts of ``out`` about a folder of files or a prepared folder; returns whether none is left.

    UserError: ``out`` was begun with another model, other images or other settings.
    """
    engine = engine or Engine()
    if (images is None) == (data is None):
        raise UserError(f"{question.action} in parts needs either one folder of --images or one of --data")
    parts.check_place(out, images)
    listing = parts.list_images(images) if images else None
    predictor = load(question.model, device=question.device, calibration=question.calibration)
    scorer = _scorer(question, predictor)
    if scorer and scorer.calibration:
        question = question._replace(prompts=scorer.prompts)
    elif scorer:
        question = question._replace(prompts=scorer.prompts, temperature=scorer.temperature)
    corpus = _open(data, predictor) if data else None
    identity = predictor.encoder.identity
    used = scorer.calibration if scorer else None
    settings = parts.settings_of(question, identity, listing if listing is not None else corpus, used)
    parts.begin(out, settings, listing, images)
    plan = Plan(_anywhere(question), identity, out.absolute(), images and images.absolute(), data and data.absolute())
    _run(plan, predictor, settings["images"], engine)
    return parts.finish(out, settings["images"])


def write_parts(plan: Plan, numbers: Iterable[int], predictor: Predictor, *, workers: int) -> Iterator[int]:
    """Yields the number of each part when it is written; images are decoded ahead of the computation."""
    scorer = _scorer(plan.question, predictor)
    compute = _computing(plan.question, predictor, scorer)
    if plan.data:
        batches = _prepared(_open(plan.data, predictor), numbers)
    else:
        batches = _decoded(plan, predictor, numbers, workers)
    for number, group in groupby(batches, key=lambda batch: batch.part):
        names, reasons, values = list[str](), list[str | None](), []
        for batch in group:
            names += batch.names
            reasons += batch.reasons
            if len(batch.pixels):
                values.append(compute(batch.pixels))
        if not values:  # for the width
            side = batch.pixels.shape[1]
            values.append(compute(np.zeros((1, side, side), np.uint8))[:0])
        decided = _decided(plan.question, scorer) if scorer else []
        columns = [*scorer.prompts, *decided] if scorer else None
        parts.save(plan.out, number, names, reasons, np.concatenate(values), columns, decided)
        yield number


def write_one(plan: Plan, number: int) -> int:
    """A task of a cluster: one part with one process that decodes."""
    question = plan.question
    named = (question.model, question.device, question.calibration)
    predictor = _kept(*named)
    if predictor.encoder.identity != plan.identity:  # kept since before the model changed
        _kept.cache_clear()
        predictor = _kept(*named)
    if predictor.encoder.identity != plan.identity:
        raise UserError(f"a worker of the cluster finds a different model at {question.model}: give it the same files")
    (done,) = write_parts(plan, [number], predictor, workers=1)
    return done


@lru_cache(maxsize=1)
def _kept(model: str, device: str, calibration: str | None) -> Predictor:
    return load(model, device=device, calibration=calibration)


def _run(plan: Plan, predictor: Predictor, total: int, engine: Engine) -> None:
    index, count = engine.part
    every = range(-(-total // parts.PART))
    own = [number for number in every if number % count == index - 1]
    absent = parts.absent(plan.out, own)
    parts.remove_interrupted(plan.out, absent)

    def size(numbers: Iterable[int]) -> int:
        return sum(min(parts.PART, total - number * parts.PART) for number in numbers)

    left = size(absent)
    if left < size(own):
        log.info("continuing after %d images", size(own) - left)
    with progress(total=size(own), done=size(own) - left) as advance:
        done = (
            on_cluster(partial(write_one, plan), absent, engine.cluster)
            if engine.cluster is not None
            else write_parts(plan, absent, predictor, workers=engine.processes(left))
        )
        for number in done:
            advance(size([number]))


def _decoded(plan: Plan, predictor: Predictor, numbers: Iterable[int], workers: int) -> Iterator[Batch]:
    assert plan.images
    wanted, folder = predictor.encoder.preprocessing, plan.images
    side = wanted.prepared_size
    equalized = wanted.tone == "equalized"
    setup = Setup(side, wanted.resize, masks=False, percentiles=wanted.percentiles, equalized=equalized)
    empty = np.zeros((0, side, side), np.uint8)

    flat = seen = 0

    def jobs() -> Iterator[tuple[tuple[int, list[str]], list[Job]]]:
        for number in numbers:
            names = parts.listed(plan.out, number)
            for start in range(0, len(names), _step(side)):
                some = names[start : start + _step(side)]
                yield (number, some), [Job(folder / name, "", (), None, None) for name in some]

    with Pool(DECODER, setup=setup, workers=workers, time_limit=Engine.time_limit) as pool:
        for (number, names), found in pool.map(jobs()):
            reasons = [each.reason if isinstance(each, Failure) else None for each in found]
            images = [each.image for each in found if isinstance(each, Decoded)]
            seen, flat = seen + len(images), flat + sum(map(is_flat, images))
            yield Batch(number, names, reasons, np.stack(images) if images else empty)
    warn_of_files(flat, seen, predictor.encoder.name, wanted)


def _prepared(data: Corpus, numbers: Iterable[int]) -> Iterator[Batch]:
    names = data.table["image_id"]
    for number in numbers:
        end = min((number + 1) * parts.PART, len(data))
        for start in range(number * parts.PART, end, _step(data.size)):
            rows = np.arange(start, min(start + _step(data.size), end))
            yield Batch(number, names.iloc[rows].tolist(), [None] * len(rows), np.array(data.images[rows]))


def _step(side: int) -> int:
    """Images of a batch."""
    return max(1, min(BATCH, CHUNK_PIXELS // side**2))


def _open(folder: Path, predictor: Predictor) -> Corpus:
    wanted = predictor.encoder.preprocessing
    data = Corpus.open(folder, size=wanted.prepared_size)
    for key in ("resize", "percentiles"):
        if getattr(data, key) != getattr(wanted, key):
            raise UserError(
                f"{folder} was prepared with --{key} {getattr(data, key)}, but the model needs {getattr(wanted, key)}: "
                "prepare another folder, or give --images"
            )
    warn_of_tone(str(folder), data.meta.get("tone", "unknown"), predictor.encoder.name, wanted)
    return data


def _scorer(question: Question, predictor: Predictor) -> Scorer | None:
    if question.action == "embed":
        return None
    branch, temperature, language = question.branch, question.temperature, question.language
    scorer = predictor.scorer(question.prompts, branch=branch, temperature=temperature, language=language)
    if taken := {"image", "reason"} & scorer.prompts.keys():
        raise UserError(
            f"--prompts: a class cannot be called {' or '.join(sorted(taken))}, since a column already has this name"
        )
    return scorer


def _decided(question: Question, scorer: Scorer) -> list[str]:
    """The columns of decisions. UserError: they are asked for, and no class has a threshold."""
    nothing = np.zeros((0, len(scorer.prompts)), np.float32)
    return [f"{name} {POSITIVE}" for name in scorer.decisions(nothing)] if question.decide else []


def _computing(question: Question, predictor: Predictor, scorer: Scorer | None) -> Compute:
    encoder = predictor.encoder.to(predictor.device)

    def compute(pixels: UInt8[np.ndarray, "_ size size"]) -> Float32[np.ndarray, "_ width"]:
        vectors = image_vectors(embed_batch(encoder, pixels, predictor.device), question.branch)
        if scorer is None:
            return vectors
        scores = scorer.scores(vectors)
        decided = scorer.decisions(scores) if question.decide else {}
        return np.column_stack([scorer.probabilities(scores), *decided.values()]).astype(np.float32)

    return compute


def _anywhere(question: Question) -> Question:
    """A model folder and a calibration by their absolute paths, for workers that run elsewhere."""
    path, calibration = Path(question.model), question.calibration
    if calibration is not None:
        question = question._replace(calibration=str(Path(calibration).absolute()))
    return question._replace(model=str(path.absolute())) if path.is_dir() else question
