"""The training loop itself under the clock and under the profiler; what it does is left as it is."""

import json
import logging
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from imitate.config import ImitateConfig, Recipe, TrainingConfig
from imitate.data.corpus import Corpus
from imitate.data.sampler import BatchReader, BatchSampler, training_rows
from imitate.models.imitate import seeded_model
from imitate.training import loop
from imitate.training.engine import launch
from measuring import Row, Tables

END = "the end of the steps"
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy", "aten::item")
KINDS = {  # of kernels, by what their names hold; the first that fits
    "convolution and products": ("conv", "gemm", "cutlass", "xmma", "cudnn", "nvjet", "sm90", "sm80", "wgrad", "dgrad"),
    "normalisation": ("batch_norm", "bn_", "norm"),
    "optimizer": ("adam", "multi_tensor"),
    "views": ("grid_sampler",),
    "copies": ("memcpy", "memset", "copy"),
}


class Sizes(NamedTuple):
    batch: int
    images: int
    steps: int  # of a loop, thereof a third to warm up
    rounds: int
    large: int  # the contrastive batch that chunks make possible
    chunk: int
    config: ImitateConfig


logging.getLogger("lightning_fabric").setLevel(logging.ERROR)  # which names the precision of every run


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def write_folder(root: Path, sizes: Sizes) -> Corpus:
    """A prepared folder of noise: no pixel changes what a step takes."""
    root.mkdir(parents=True)
    side, count = sizes.config.prepared_size, sizes.images
    images = np.lib.format.open_memmap(root / "images.npy", "w+", np.uint8, (count, side, side))
    generator = np.random.default_rng(0)
    for start in range(0, count, 1024):
        images[start : start + 1024] = generator.integers(0, 256, images[start : start + 1024].shape, np.uint8)
    images.flush()
    names = [f"{i:06d}" for i in range(count)]
    text = {"findings": "Clear.", "impression": "Normal.", "split": "train", "view": "PA"}
    table = pd.DataFrame({"image_id": names, "patient": names, "study": names, **text})
    table.to_parquet(root / "table.parquet")
    meta = {
        "format_version": 1,
        "source": "noise",
        "size": side,
        "fit": "squash",
        "classes": [],
        "fingerprint": "noise",
    }
    (root / "meta.json").write_text(json.dumps(meta))
    return Corpus.open(root)


def job(data: Corpus, folder: Path, sizes: Sizes, device: str, **training: Any) -> loop.Job:
    batch = training.pop("batch_size", sizes.batch)
    settings = TrainingConfig(
        **{"batch_size": batch, "devices": 1, "precision": "bf16-mixed", "log_every": 10, **training}
    )
    recipe = Recipe(model=sizes.config, pretrained=False, training=settings)
    model = seeded_model(sizes.config, pretrained=False, seed=0)
    texts = np.random.default_rng(1).normal(size=(len(data), sizes.config.text_width)).astype(np.float16)
    reader = BatchReader(data, {"findings": texts, "impression": texts}, pin=device == "cuda")
    folder.mkdir(parents=True)
    return loop.Job(
        launch(settings), recipe, model, BatchSampler(training_rows(data), batch_size=batch, seed=0), reader, folder
    )


def looped(run: loop.Job, count: int, device: str) -> float:
    """Seconds a step of ``fit`` itself: reading, views, loss, optimizer, logging; after a third to warm up."""
    marks: dict[int, float] = {}

    def step(*arguments: Any) -> Any:
        if run.step in (count // 3, count - 1):
            synchronise(device)
            marks[run.step] = time.perf_counter()
        if run.step == count - 1:
            raise Ended
        return original(*arguments)

    original = loop._step
    setattr(loop, "_step", step)  # noqa: B010
    try:
        loop.fit(run)
    except Ended:
        first, last = sorted(marks)
        return (marks[last] - marks[first]) / (last - first)
    finally:
        setattr(loop, "_step", original)  # noqa: B010
    raise AssertionError(f"the loop ended before step {count}")


class Ended(Exception):
    pass


def fit_with(step: Callable[..., Any], made: loop.Job) -> None:
    """``fit`` with ``step`` in the place of the loop's own, until it raises ``Ended``."""
    original = loop._step
    setattr(loop, "_step", step)  # noqa: B010
    try:
        loop.fit(made)
    except Ended:
        pass
    finally:
        setattr(loop, "_step", original)  # noqa: B010


def waiting(device: str, sizes: Sizes, data: Corpus, folder: Path, tables: Tables) -> list[Row]:
    """Steps between two logging steps: what the host waited for; where the card's time went becomes ``kernels``."""
    made = job(data, folder / "profiled", sizes, device)
    found: dict[str, Any] = {}
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    first, last = (11, 19) if device == "cuda" else (1, 3)

    def step(*arguments: Any) -> Any:
        if made.step == first:
            synchronise(device)
            found["profile"] = profile(activities=kinds)
            found["profile"].__enter__()
        if made.step == last:
            started = time.perf_counter()
            with record_function(END):
                synchronise(device)
            found["drained"] = time.perf_counter() - started
            found["profile"].__exit__(None, None, None)
            raise Ended
        with refused(device, found, made.step >= first):
            return original(*arguments)

    original = loop._step
    fit_with(step, made)
    count = last - first
    events = found["profile"].events()
    end = min(event.time_range.start for event in events if event.name == END)
    host = Counter(event.name for event in events if event.name in WAITS and event.time_range.start < end)
    rows = [{"waits": "that torch's synchronisation debug mode reports", "times": found.get("refused", 0)}]
    rows += [{"waits": f"{name} on the host", "times": host[name]} for name in WAITS]
    rows = [{"steps": count, **row} for row in rows]
    rows.append(
        {"steps": count, "waits": "ms of work that the card still had at the end", "times": 1e3 * found["drained"]}
    )
    if device == "cuda":
        tables["kernels"] = where(events, count)
    return rows


@contextmanager
def refused(device: str, found: dict[str, Any], on: bool) -> Iterator[None]:
    """Count what torch itself knows to wait for the device."""
    if device != "cuda" or not on:
        yield
        return
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
    found["refused"] = found.get("refused", 0) + sum("synchroniz" in str(each.message) for each in given)


def where(events: Any, count: int) -> list[Row]:
    """Milliseconds a step by kind of kernel, and what no kernel covers."""
    on_card = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
    kernels = [event for event in on_card if "#" not in event.name and event.name != END]  # no ranges of the host
    spent: Counter[str] = Counter()
    for event in kernels:
        name = event.name.lower()
        kind = next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "elementwise, rest")
        spent[kind] += event.time_range.elapsed_us()
    span = max(e.time_range.end for e in kernels) - min(e.time_range.start for e in kernels)
    spent["no kernel"] = max(0, span - sum(spent.values()))
    parts = spent.most_common()
    return [{"kernels": kind, "ms a step": time / 1e3 / count, "fraction": time / span} for kind, time in parts]
