"""Classifying with torch beside ONNX, float32 and int8: the time from prepared images to probabilities, and the loss.

    python benchmarks/onnx_classify.py
    python benchmarks/onnx_classify.py --only loss --runs RUN ... --data PREPARED

The first takes two minutes, on an idle machine. The second measures retrieval and zero-shot classification of trained
runs on the test images of a prepared folder, at any time, and keeps the other tables.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from bulk import write_model
from imitate.data.corpus import Corpus
from imitate.inference.base import BaseEncoder
from imitate.inference.embeddings import embed_batch
from imitate.inference.encoder import ImitateEncoder, load_folder
from imitate.inference.gallery import image_vectors
from imitate.inference.onnx import OnnxEncoder
from imitate.inference.onnx_export import export_onnx, session
from imitate.inference.predictor import load
from imitate.tasks.base import Budget
from imitate.tasks.retrieval import Retrieval
from imitate.tasks.zero_shot import ZeroShot
from measuring import RESULTS, Row, Tables, alternate, finish, options, ratio

NAME = "onnx_classify"
PROMPTS = {"Effusion": "pleural effusion", "Edema": "edema", "Pneumothorax": "pneumothorax"}
KINDS = ("ONNX float32", "ONNX int8")


def exported(run: str, work: Path, data: Path) -> dict[str, Path]:
    """The folders of both kinds."""
    found = {name: work / name.replace(" ", "-") for name in KINDS}
    for name, folder in found.items():
        export_onnx(run, folder, int8=data if name.endswith("int8") else None)
    return found


def steps(run: str, folders: dict[str, Path], pixels: np.ndarray, threads: int) -> dict[str, Callable[[], Any]]:
    """From prepared images, 8 bits, to probabilities; equal to 1e-4 for float32."""
    predictor = load(run, device="cpu")
    scorer = predictor.scorer(PROMPTS)

    def probabilities(encoder: BaseEncoder) -> np.ndarray:
        torch.set_num_threads(threads)
        return scorer.probabilities(scorer.scores(image_vectors(embed_batch(encoder, pixels, "cpu"), "both")))

    encoders: dict[str, BaseEncoder] = {"torch": predictor.encoder}
    for name, folder in folders.items():
        encoders[name] = opened = OnnxEncoder(folder, name=name, device="cpu")
        opened._image = session(folder / "image.onnx", threads)
    first, second, _ = map(probabilities, encoders.values())
    assert np.abs(first - second).max() < 1e-4
    return {name: partial(probabilities, encoder) for name, encoder in encoders.items()}


def speed(tables: Tables, work: Path, backbone: str, *, size: int, most: int, rounds: int) -> None:
    """Rows of one image, and of a batch; random weights, which take as long as others."""
    run, data = write_model(work / backbone, backbone, size), work / "data"
    folders = exported(run, work / f"{backbone}-onnx", data)
    images = np.array(Corpus.open(data).images)
    for threads in (1, 2):
        for batch in (1, most):
            seconds = alternate(steps(run, folders, images[:batch], threads), rounds=rounds // batch + 4)
            middle = {name: float(np.median(each)) for name, each in seconds.items()}
            row: Row = {"network": f"{backbone}, {size} px", "threads": threads}
            if batch == 1:
                row |= {f"{name}, ms": 1000 * each for name, each in middle.items()}
            else:
                row |= {"images at once": batch} | {f"{name}, images/s": batch / each for name, each in middle.items()}
            row |= {f"{name} over torch": ratio(seconds["torch"], seconds[name]) for name in KINDS}
            tables["latency" if batch == 1 else "throughput"].append(row)


class Exported(ImitateEncoder):
    """A run whose images are read by its exported graph."""

    def __init__(self, run: ImitateEncoder, folder: Path) -> None:
        super().__init__(run.name, run.model, run.text)
        self._graph = OnnxEncoder(folder, name=run.name, device="cpu")

    def vectors_of_images(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        return self._graph.vectors_of_images(pixels)


def loss(work: Path, run: Path, data: Path) -> list[Row]:
    """Retrieval and zero-shot classification of the test images."""
    whole, corpus = load_folder(run), Corpus.open(data)
    folders = exported(str(run), work / run.parent.name, data)
    rows = []
    encoders: dict[str, ImitateEncoder] = {"torch": whole}
    encoders |= {name: Exported(whole, folder) for name, folder in folders.items()}
    for name, encoder in encoders.items():
        record = json.loads((folders[name] / "imitate.json").read_text()) if name in folders else {}
        scores = [task.measure(task.predict(encoder, corpus, Budget())) for task in (Retrieval(), ZeroShot())]
        size = (folders[name] / "image.onnx" if name in folders else run / "model" / "model.safetensors").stat().st_size
        rows.append(
            {"run": f"{run.parent.name}/{run.name}", "images read by": name, "MB": size / 1e6}
            | {"mean recall, %": 100 * scores[0]["mean-recall"], "macro AUROC, %": 100 * scores[1]["auroc"]}
            | {"cosine with torch": record["int8"]["cosine"] if "int8" in record else 1.0}
        )
    return rows


def kept() -> Tables:
    """What the results file holds already."""
    path = RESULTS / f"{NAME}.json"
    found: Tables = json.loads(path.read_text(encoding="utf-8"))["tables"] if path.is_file() else {}
    return found


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--runs", type=Path, nargs="+", default=[], help="trained runs, for --only loss")
    parser.add_argument("--data", type=Path, help="the prepared folder that they learnt from, for --only loss")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        work = Path(folder)
        if arguments.only == "loss":
            rows = [row for run in arguments.runs for row in loss(work, run, arguments.data)]
            finish(arguments, NAME, kept() | {"loss": rows})
            return
        networks = (("resnet18", 64),) if arguments.quick else (("resnet50", 224), ("vit_small_patch16_224", 224))
        most, rounds = (4, 2) if arguments.quick else (8, 24)
        tables: Tables = {"latency": [], "throughput": []}
        for backbone, size in networks:
            making = ["prepare", "synthetic", "--out", str(work / "data"), "--n", "48", "--size", str(8 * size // 7)]
            if not (work / "data").exists():
                subprocess.run([sys.executable, "-m", "imitate", *making], check=True, stderr=subprocess.DEVNULL)
            speed(tables, work, backbone, size=size, most=most, rounds=rounds)
        finish(arguments, NAME, kept() | tables)


if __name__ == "__main__":
    main()
