"""Evaluation at full size: a linear probe, retrieval among a million texts, a thousand bootstrap samples.

python benchmarks/retrieval.py
"""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from imitate.inference.nearest import nearest
from imitate.statistics import metrics, resampling
from imitate.tasks.classification import LinearClassification
from imitate.tasks.logistic import logistic_path, standardise
from imitate.tasks.retrieval_ranking import Side, rank
from measuring import Row, alone, finish, from_now, options, resident, timed

CLASSES = 14


def probe(*, images: int, width: int) -> Row:
    """The whole path of weight decays that ``linear-classification`` would try, on features of as many images."""
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(width, CLASSES, generator=generator) / width**0.5
    features = torch.randn(images, width, generator=generator)
    noise = torch.randn(images, CLASSES, generator=generator)
    target = ((features @ direction + noise) > 1).float()
    decays: list[float] = []

    def fit() -> None:
        standardise(features)
        path = logistic_path(features, target, decays=LinearClassification().decays, exclusive=False)
        decays.extend(decay for decay, _ in path)

    seconds = timed(fit)
    row = {"images": images, "width": width, "classes": CLASSES, "weight decays": len(decays), "s": seconds}
    return row | {"target": "< 30 s", "peak GB": resident()}


def ranking(*, texts: int, queries: int, width: int = 512) -> Row:
    """Exact ranks of every query's own text among all, as ``evaluate retrieval`` computes them."""
    generator = torch.Generator().manual_seed(0)
    gallery = normalize(torch.randn(texts, width, generator=generator))
    chosen = torch.randperm(texts, generator=generator)[:queries]
    asked = normalize(gallery[chosen] + 0.2 * torch.randn(queries, width, generator=generator))
    before = from_now()
    none = torch.zeros(texts, 0)
    sides = Side(asked, chosen, none[:queries]), Side(gallery, torch.arange(texts), none)
    seconds = timed(lambda: rank(*sides))
    row = {"texts": texts, "queries": queries, "search": "all ranks, exact", "s": seconds}
    return row | {"queries/s": queries / seconds, "GB above the vectors": resident() - before}


def searching(*, texts: int, queries: int, width: int = 512) -> Row:
    """The five nearest texts."""
    generator = torch.Generator().manual_seed(0)
    gallery = normalize(torch.randn(texts, width, generator=generator))
    asked = normalize(torch.randn(queries, width, generator=generator))
    before = from_now()
    seconds = timed(lambda: nearest(asked, gallery, 5))
    row = {"texts": texts, "queries": queries, "search": "5 nearest, exact", "s": seconds}
    return row | {"queries/s": queries / seconds, "GB above the vectors": resident() - before}


def intervals(*, images: int, resamples: int) -> list[Row]:
    """Intervals of a macro average over 14 classes, one image a patient."""
    generator = np.random.default_rng(0)
    target = (generator.random((images, CLASSES)) < 0.1).astype(np.float64)
    score = target + generator.normal(size=target.shape)
    names = [str(i) for i in range(CLASSES)]
    rows = []
    for name, metric in (("auroc", metrics.auroc), ("average-precision", metrics.average_precision)):
        run = partial(metrics.per_class, name, metric, target, score, names)
        seconds = timed(partial(resampling.bootstrap, [run], np.arange(images), resamples=resamples))
        rows.append({"metric": name, "classes": CLASSES, "images": images, "resamples": resamples, "s": seconds})
    return rows


def main() -> None:
    arguments = options(__doc__).parse_args()
    quick = arguments.quick
    sizes = [2_000, 4_000] if quick else [62_500, 125_000, 250_000, 500_000, 1_000_000]
    queries = 64 if quick else 256
    parts: dict[str, Callable[[], Any]] = {}
    parts["probe"] = partial(probe, images=2_000 if quick else 186_000, width=64 if quick else 2_048)
    parts |= {f"rank {n}": partial(ranking, texts=n, queries=queries) for n in sizes}
    parts |= {f"nearest {n}": partial(searching, texts=n, queries=queries) for n in sizes[-1:]}
    if arguments.only:
        print(json.dumps(parts[arguments.only]()))
        return
    found = {name: alone(__file__, name, *(["--quick"] if quick else [])) for name in parts}
    tables = {"probe": [found.pop("probe")], "retrieval": list(found.values())}
    tables["bootstrap"] = intervals(images=500 if quick else 25_000, resamples=50 if quick else 1_000)
    finish(arguments, "retrieval", tables)


if __name__ == "__main__":
    main()
