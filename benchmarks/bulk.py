"""Bulk embedding of a folder of radiographs beside what it is made of: decoding alone, and the encoder alone.

    python benchmarks/bulk.py

The reference is 1 / (1/d + 1/e), the rate of a program that decodes on all cores, then encodes on all cores, and loses
nothing between. Decoding and the encoder are measured before and after, on a fifth of the images.
"""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

import numpy as np
import torch
import yaml

from data import decode, write_files
from imitate.config import ImitateConfig, Recipe
from imitate.inference.bulk import Question, predict_in_parts
from imitate.inference.embeddings import BATCH, embed_batch
from imitate.inference.predictor import load
from imitate.models.imitate import seeded_model
from imitate.models.text import LsaTextEncoder, save_text_encoder
from imitate.synthetic.cases import draw_case
from imitate.synthetic.wording import compose
from measuring import Row, cores, finish, options, timed


def write_model(folder: Path, backbone: str, size: int) -> str:
    """A run folder with random weights, which take as long as others."""
    reports = [report.findings or report.impression or "" for report in (compose(draw_case(1, i)) for i in range(400))]
    text = LsaTextEncoder.fit(reports, width=32)
    sizes = {"prepared_size": 8 * size // 7, "image_size": size}
    recipe = Recipe(model=ImitateConfig(backbone=backbone, text_width=text.width, **sizes))
    seeded_model(recipe.model, pretrained=False, seed=0).save(folder / "model")
    save_text_encoder(text, folder / "text")
    settings = recipe.model_dump(mode="json") | {"data": {"path": str(folder), "fingerprint": ""}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return str(folder)


def write_images(folder: Path, suffix: str, *, n: int, distinct: int, side: int) -> list[Path]:
    """``n`` names of ``distinct`` files."""
    folder.mkdir()
    files = write_files(folder, suffix, n=distinct, shape=(side, side))
    for number in range(distinct, n):
        os.link(files[number % distinct], folder / f"{number}{suffix}")
    return [folder / f"{number}{suffix}" for number in range(n)]


def bulk(scratch: Path, suffix: str, *, n: int, distinct: int, side: int, size: int, backbone: str) -> Row:
    files = write_images(scratch / suffix[1:], suffix, n=n, distinct=distinct, side=side)
    model = write_model(scratch / f"model-{suffix[1:]}", backbone, size)
    few = files[: n // 5]
    encoder = load(model, device="cpu").encoder
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, 8 * size // 7, 8 * size // 7), dtype=np.uint8)

    def encode() -> None:
        for start in range(0, len(few), BATCH):
            embed_batch(encoder, pixels[: len(few) - start], "cpu")

    def embed() -> None:
        out, question = scratch / f"out-{suffix[1:]}", Question("embed", model, device="cpu")
        assert predict_in_parts(question, out, images=files[0].parent)

    with ProcessPoolExecutor(cores(), mp_context=get_context("fork")) as pool, torch.inference_mode():
        parts: dict[str, Callable[[], object]] = {"d": partial(decode, pool, few), "e": encode}
        for part in parts.values():
            part()  # once, which does not count
        seconds: dict[str, list[float]] = {name: [timed(part)] for name, part in parts.items()}
        whole = timed(embed)
        for name, part in parts.items():
            seconds[name].append(timed(part))
    decoding, encoding = (len(few) / mean(seconds[name]) for name in ("d", "e"))
    reference = 1 / (1 / decoding + 1 / encoding)
    row = {"images": n, "files": f"{suffix[1:].upper()}, {side} px", "encoder": f"{backbone}, {size} px"}
    row |= {"decode, images/s": decoding, "encode, images/s": encoding, "embed, images/s": n / whole}
    return row | {"of 1/(1/d + 1/e)": n / whole / reference, "target": ">= 0.9"}


def main() -> None:
    arguments = options(__doc__).parse_args()
    n, distinct, side = (60, 4, 256) if arguments.quick else (10_000, 100, 1024)
    with TemporaryDirectory() as scratch:
        rows = [bulk(Path(scratch), ".jpg", n=n, distinct=distinct, side=side, size=112, backbone="resnet18")]
    finish(arguments, "bulk", {"embedding": rows})


if __name__ == "__main__":
    main()
