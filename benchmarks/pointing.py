"""Do heat-maps point at lesions? Pointing game and localisation on boxes, for each branch and method, with controls.

Every pair of an image and a class that has boxes in it is asked with the class's positive prompts. A map points where
it is highest: a hit is a point in one of the boxes. Its localisation is the AUROC of pixels inside against outside.
Beside it stand its gains over the map of the same text in another image of that class, and of another text here.

    python benchmarks/pointing.py                                   (draws radiographs, trains on them; some minutes)
    python benchmarks/pointing.py --runs RUN... --data PREPARED --out docs/results/pointing/NAME.json
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import functional as F

from imitate.commands.prepare import prepare
from imitate.commands.pretrain import pretrain
from imitate.data.corpus import Corpus
from imitate.inference.embeddings import embed_texts
from imitate.inference.encoder import ImitateEncoder, load_folder
from imitate.inference.heatmap import contributions, over_pixels, similarity
from imitate.inference.prompts import choose_prompts
from imitate.models.imitate import freeze_all, seeded_model
from imitate.models.types import Images
from imitate.names import Branch
from imitate.report.markdown import markdown_table
from imitate.statistics.intervals import independent, interval, share_interval, spread
from imitate.statistics.metrics import mean
from imitate.statistics.resampling import bootstrap
from imitate.tasks.zero_shot import class_prompts

RECIPE = Path(__file__).parents[1] / "recipes" / "open_i_small.yaml"
BRANCHES: tuple[Branch, ...] = ("findings", "impression")
HIRESCAM = {"C3+C4": (3, 4), "C4": (4,), "C3": (3,), "C2": (2,), "C2+C3+C4": (2, 3, 4)}  # the first is the one in use
BATCH, PATCH = 64, 4  # images at once; an occluding patch has a quarter of the side
Found = dict[tuple[str, Branch], list[Tensor]]
"""By name and branch, a set of maps (images, side, side) a text."""
Method = Callable[[ImitateEncoder, Images, list[Tensor]], Found]
"""Of a model, images and texts, each of one row an image."""


class Pairs(NamedTuple):
    """Images and classes with boxes; ``inside`` (pairs, side, side) tells the boxes' pixels in the model's view."""

    rows: np.ndarray
    labels: np.ndarray
    patients: np.ndarray
    inside: np.ndarray


def hirescam(model: ImitateEncoder, images: Images, texts: list[Tensor]) -> Found:
    found: Found = {}
    for branch in BRANCHES:
        each = [contributions(model, images, text, branch, levels=(1, 2, 3)) for text in texts]
        for name, levels in HIRESCAM.items():
            maps = [over_pixels([cells[level - 2] for level in levels], images.shape[-1]) for cells in each]
            found[f"HiResCAM {name}", branch] = maps
    return found


@torch.inference_mode()
def similarity_map(encoder: ImitateEncoder, images: Images, texts: list[Tensor]) -> Found:
    """Each place of C4 put through the impression head by itself, and its cosine with the text."""
    model = encoder.model
    deepest = model.image(images).levels[-1]
    batch, _, high, wide = deepest.shape
    places = model.impression_head(deepest.permute(0, 2, 3, 1).flatten(0, 2)).view(batch, high, wide, -1)
    cosines = [F.cosine_similarity(places, text[:, None, None], dim=-1) for text in texts]
    return {("similarity map C4", "impression"): [over_pixels([each], images.shape[-1]) for each in cosines]}


@torch.inference_mode()
def occlusion(model: ImitateEncoder, images: Images, texts: list[Tensor]) -> Found:
    """The mean fall of the similarity over all gray patches that cover a place (Zeiler and Fergus, ECCV 2014)."""
    side, patch = images.shape[-1], images.shape[-1] // PATCH
    corners = range(0, side - patch + 1, patch // 2)
    whole = model.look(images)[0]
    found: Found = {("occlusion", branch): [torch.zeros(len(images), side, side) for _ in texts] for branch in BRANCHES}
    cover = torch.zeros(side, side)
    for top, left in ((top, left) for top in corners for left in corners):
        window = (..., slice(top, top + patch), slice(left, left + patch))
        covered = images.clone()
        covered[window] = images.mean((1, 2, 3), keepdim=True)
        seen = model.look(covered)[0]
        cover[window] += 1
        for (_, branch), maps in found.items():
            for fall, text in zip(maps, texts, strict=True):
                fall[window] += (similarity(whole, text, branch) - similarity(seen, text, branch))[:, None, None]
    return {key: [fall / cover for fall in maps] for key, maps in found.items()}


def find_pairs(data: Corpus, rows: np.ndarray, labels: Sequence[str], side: int) -> Pairs:
    """All pairs of these frontal images with at least one pixel of a box in the view."""
    margin = (data.meta["size"] - side) // 2
    centre = np.arange(side) + 0.5 + margin
    found = []
    for row in rows[(data.table["projection"].iloc[rows] != "LATERAL").to_numpy()]:
        boxes = data.boxes(int(row))
        for label in sorted({box.label for box in boxes} & set(labels)):
            inside = np.zeros((side, side), bool)
            for box in boxes:
                if box.label == label:
                    across = (centre >= box.x) & (centre < box.x + box.width)
                    inside |= across & ((centre >= box.y) & (centre < box.y + box.height))[:, None]
            if inside.any():
                found.append((row, label, data.table["patient"].iloc[row], inside))
    return Pairs(*map(np.array, zip(*found, strict=True)))


def score(maps: np.ndarray, inside: np.ndarray) -> dict[str, np.ndarray]:
    """Hits and AUROCs, one a pair; places of equal height share the point, as they share their rank."""
    flat, within = maps.reshape(len(maps), -1), inside.reshape(len(maps), -1)
    highest = flat == flat.max(1, keepdims=True)
    ranks, count = rankdata(flat, axis=1), within.sum(1)
    wins = (ranks * within).sum(1) - count * (count + 1) / 2
    return {
        "pointing": (highest & within).sum(1) / highest.sum(1),
        "auroc": wins / (count * (within.shape[1] - count)),
    }


def others(pairs: Pairs) -> np.ndarray:
    """(pairs, pairs): the same class in another patient; where there is none, any class in another patient."""
    elsewhere = pairs.patients[:, None] != pairs.patients
    same = elsewhere & (pairs.labels[:, None] == pairs.labels)
    return np.where(same.any(1, keepdims=True), same, elsewhere)


def baselines(pairs: Pairs) -> dict[str, dict[str, np.ndarray]]:
    side = pairs.inside.shape[-1]
    away = np.hypot(*(np.mgrid[:side, :side] + 0.5 - side / 2))
    other = others(pairs).astype(float)
    usual = np.einsum("pq,qhw->phw", other / other.sum(1, keepdims=True), pairs.inside)
    share = pairs.inside.mean((1, 2))
    return {
        "chance": {"pointing": share, "auroc": np.full(len(share), 0.5)},
        "image centre": score(np.broadcast_to(-away, pairs.inside.shape), pairs.inside),
        "boxes of other images": score(usual, pairs.inside),
    }


METHODS: tuple[Method, ...] = (hirescam, similarity_map, occlusion)


def figures(
    subject: ImitateEncoder, data: Corpus, pairs: Pairs, methods: Sequence[Method] = METHODS
) -> dict[str, np.ndarray]:
    """One value a pair, named map/branch/figure."""
    texts = prompt_vectors(subject, data)
    names = sorted(set(pairs.labels))
    wrong = [names[(names.index(label) + 1) % len(names)] for label in pairs.labels]
    asked = [torch.stack([texts[label] for label in labels]) for labels in (pairs.labels, wrong)]
    view = subject.prepare(torch.from_numpy(np.array(data.images[pairs.rows])))
    exchanged = np.array([np.roll(np.flatnonzero(row), -i)[0] for i, row in enumerate(others(pairs))])
    found: dict[str, np.ndarray] = {}
    for method in methods:
        batches = torch.arange(len(view)).split(BATCH)
        parts = [method(subject, view[rows], [text[rows] for text in asked]) for rows in batches]
        for key in parts[0]:
            own, other = (torch.cat([part[key][i] for part in parts]).numpy() for i in (0, 1))
            scores = score(own, pairs.inside)
            controls = {"image": score(own[exchanged], pairs.inside), "text": score(other, pairs.inside)}
            for name, values in scores.items():
                found[f"{'/'.join(key)}/{name}"] = values
                for control, level in controls.items():
                    found[f"{'/'.join(key)}/{name} over another {control}"] = values - level[name]
    return found


def prompt_vectors(subject: ImitateEncoder, data: Corpus) -> dict[str, Tensor]:
    """The unit vector in the middle of each class's positive prompts; only of classes whose words are known."""
    assert subject.text is not None
    prompts = choose_prompts(dict(class_prompts(data, None)), subject.text)
    return {
        label: F.normalize(embed_texts(subject, list(each.positive), "cpu").mean(0), dim=0).clone()
        for label, each in prompts.items()
    }


def untrained(subject: ImitateEncoder, seed: int) -> ImitateEncoder:
    fresh = seeded_model(subject.model.config, pretrained=False, seed=seed)
    freeze_all(fresh)
    return ImitateEncoder("untrained", fresh.eval(), subject.text)


def measure(runs: Sequence[Path], data: Corpus, split: str | None) -> dict[str, Any]:
    subjects = [load_folder(run) for run in runs]
    rows = data.rows(split) if split else np.arange(len(data))
    pairs = find_pairs(data, rows, list(prompt_vectors(subjects[0], data)), subjects[0].preprocessing.image_size)
    fixed = {f"{row}//{name}": each for row, scores in baselines(pairs).items() for name, each in scores.items()}
    every = []
    for seed, subject in enumerate(subjects):
        blank = figures(untrained(subject, seed), data, pairs, [hirescam])
        kept = {f"untrained {name}": each for name, each in blank.items() if name.startswith("HiResCAM C3+C4/")}
        every.append(fixed | figures(subject, data, pairs) | kept)
    classes = {
        label: {
            "pairs": int((pairs.labels == label).sum()),
            **{name: float(np.mean([run[name][pairs.labels == label].mean() for run in every])) for name in every[0]},
        }
        for label in sorted(set(pairs.labels))
    }
    return {
        "data": data.meta["source"],
        "fingerprint": data.meta["fingerprint"],
        "runs": len(runs),
        "pairs": len(pairs.rows),
        "images": len(set(pairs.rows.tolist())),
        "patients": len(set(pairs.patients.tolist())),
        "figures": estimates(every, pairs.patients),
        "classes": classes,
    }


def estimates(runs: Sequence[dict[str, np.ndarray]], patients: np.ndarray) -> dict[str, dict[str, float]]:
    """Means over pairs and runs; 95% intervals over patients and runs."""

    def resample(run: dict[str, np.ndarray]) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        return lambda counts: {name: mean(values, counts) for name, values in run.items()}

    drawn = bootstrap([resample(run) for run in runs], patients)
    found = {}
    for name, distribution in drawn.items():
        values = np.array([run[name].mean() for run in runs])
        value, support = float(values.mean()), (len(np.unique(patients)),)
        found_in = share_interval if 0 <= distribution.min() <= distribution.max() <= 1 else interval
        ends = found_in(value, spread(independent(distribution, values), support=support))
        low, high = ends or (float("nan"), float("nan"))
        found[name] = {"value": round(value, 4), "low": round(low, 4), "high": round(high, 4)}
    return found


def table(results: dict[str, Any]) -> str:
    """Markdown; percent, with 95% intervals."""
    found = results["figures"]
    columns = ("pointing", "auroc", "auroc over another image", "auroc over another text")
    heads = (
        "map",
        "branch",
        "points at it",
        "inside over outside",
        "gain over another image",
        "gain over another text",
    )
    lines = []
    for row in dict.fromkeys(name.rpartition("/")[0] for name in found):
        method, branch = row.split("/")
        cells = [_cell(found.get(f"{row}/{column}"), signed="over" in column) for column in columns]
        lines.append([method, branch, *cells])
    return markdown_table(heads, lines, left=2)


def _cell(figure: dict[str, float] | None, *, signed: bool) -> str:
    if figure is None:
        return ""
    style = "+.1f" if signed else ".1f"
    value, low, high = (format(100 * figure[key], style) for key in ("value", "low", "high"))
    return value if value == low == high else f"{value} ({low} to {high})"


def drawn_runs(work: Path, *, images: int, seeds: int) -> tuple[list[Path], Path]:
    """Synthetic radiographs with reports and boxes, and models trained on them."""
    data, runs = work / "data", [work / f"run-{seed}" for seed in range(seeds)]
    prepare("synthetic", n=images, out=data, size=72)
    for seed, run in enumerate(runs):
        pretrain(RECIPE, data=data, out=run, threads=1, settings=(f"training.seed={seed}",))
    return runs, data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", help="run folders, the seeds of one recipe")
    parser.add_argument("--data", type=Path, help="with --runs: prepared folder with boxes")
    parser.add_argument("--split", help="only this split; needed where the runs trained on this folder")
    parser.add_argument("--images", type=int, default=3000, help="without --runs: how many to draw")
    parser.add_argument("--seeds", type=int, default=3, help="without --runs: how many models to train")
    parser.add_argument("--work", type=Path, help="without --runs: folder for data and runs, which are used again")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        runs, data, split = arguments.runs, arguments.data, arguments.split
        if not runs:
            work, split = arguments.work or Path(temporary), "test"
            runs, data = drawn_runs(work, images=arguments.images, seeds=arguments.seeds)
        results = measure(runs, Corpus.open(data), split)
    print(f"{results['data']}: {results['pairs']} pairs, {results['patients']} patients, {results['runs']} runs\n")
    print(table(results))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
