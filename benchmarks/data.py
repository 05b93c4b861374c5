"""Data: preparing against decoding alone, scaled JPEG decoding, growth with N, texts, views, reads of the memory map.

python benchmarks/data.py
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from imitate.config import AugmentConfig, ImitateConfig
from imitate.data.augment import draw_views, warp
from imitate.data.corpus import Corpus
from imitate.data.pixels import read_gray, to_prepared
from imitate.data.records import Record
from imitate.data.sampler import BatchReader
from imitate.data.shards import Settings
from imitate.data.writer import Archive, Engine, write_folder
from imitate.models.types import TextEncoder
from imitate.synthetic.cases import draw_case
from imitate.synthetic.files import save_dicom, save_picture
from imitate.synthetic.phantom import render
from imitate.synthetic.wording import compose
from measuring import Row, alone, alternate, cores, finish, options, ratio, resident, timed

FULL = (3056, 2544)  # px, height and width of MIMIC-CXR's larger detectors
SUFFIXES = {"JPEG": ".jpg", "DICOM, uncompressed": ".dcm"}
TARGETS = {".jpg": ">= 0.9", ".dcm": ">= 0.8"}


def write_files(folder: Path, suffix: str, *, n: int, shape: tuple[int, int]) -> list[Path]:
    """``n`` radiographs of different content with the noise of a detector, which decides how well JPEG packs them."""
    paths = []
    for number in range(n):
        case = draw_case(0, number)
        noise = np.random.default_rng(number).normal(0, 3, shape)
        pixels = (render(case, *shape).image + noise).clip(0, 255).astype(np.uint8)
        paths.append(folder / f"{number}{suffix}")
        if suffix == ".dcm":
            save_dicom(paths[-1], pixels, case, uids=[f"1.2.3.{part}.{number}" for part in range(3)])
        else:
            save_picture(paths[-1], pixels)
    return paths


def preparing(folder: Path, *, distinct: int, repeat: int, rounds: int, shape: tuple[int, int]) -> list[Row]:
    """``imitate prepare``'s writer on all cores beside a pool of as many processes that only decodes.

    What it takes to start the writer's processes, once, is measured apart: by preparing a file or two.
    """
    rows = []
    for kind, suffix in SUFFIXES.items():
        files = write_files(folder, suffix, n=distinct, shape=shape) * repeat
        with ProcessPoolExecutor(cores(), mp_context=get_context("fork")) as pool:
            steps = {"decode": partial(decode, pool, files), "prepare": partial(prepare, files)}
            seconds = alternate({**steps, "start": partial(prepare, files[: cores()])}, rounds=rounds)
        starting = sorted(seconds["start"])[rounds // 2]
        running = [each - starting for each in seconds["prepare"]]
        row = {"files": kind, "MB a file": files[0].stat().st_size / 1e6, "workers": cores(), "start s": starting}
        for name, each in (("decode", seconds["decode"]), ("prepare", running)):
            row[f"{name}, images/s"] = len(files) / sorted(each)[rounds // 2]
        row["of decoding"] = ratio(seconds["decode"], running)
        rows.append(row | {"target": TARGETS[suffix]})
    return rows


def decode(pool: ProcessPoolExecutor, files: list[Path]) -> None:
    list(pool.map(shape_of, files, chunksize=4))


def shape_of(path: Path) -> tuple[int, ...]:
    return read_gray(path).shape


def prepare(files: list[Path]) -> None:
    with TemporaryDirectory() as out:
        settings, archive = Settings(source="bench"), Archive(files[0].parent)
        write_folder(records(files), Path(out) / "p", settings, archive=archive, engine=Engine(workers=cores()))


def records(files: list[Path], text: str = "Clear lungs.") -> Iterator[Record]:
    for number, path in enumerate(files):
        name = f"{number:07d}"
        yield Record(
            image_id=name, image=path, patient=name, study=name, projection="PA", findings=text, impression=text
        )


def scaled(folder: Path, *, n: int, shape: tuple[int, int], rounds: int) -> list[Row]:
    """A JPEG decoded at 1/2, 1/4, 1/8 of its size by the inverse transform itself, and what that does to 256 px."""
    paths = write_files(folder, ".jpg", n=n, shape=shape)

    def read(path: Path, divisor: int) -> np.ndarray:
        with Image.open(path) as image:
            image.draft("L", (image.width // divisor, image.height // divisor))
            return np.asarray(image)

    divisors = [1, 2, 4, 8]

    def every(divisor: int) -> list[np.ndarray]:
        return [read(path, divisor) for path in paths]

    seconds = alternate({str(divisor): partial(every, divisor) for divisor in divisors}, rounds=rounds)
    whole = [to_prepared(read(path, 1), 256)[0].astype(int) for path in paths]
    rows = []
    for divisor in divisors:
        found = [to_prepared(read(path, divisor), 256)[0].astype(int) for path in paths]
        apart = np.abs(np.subtract(found, whole))
        row = {"decoded at": f"1/{divisor}", "ms an image": 1e3 * min(seconds[str(divisor)]) / n}
        row |= {"time of full": ratio(seconds[str(divisor)], seconds["1"]), "largest difference": int(apart.max())}
        rows.append(row | {"mean difference": float(apart.mean())})
    return rows


def growth(counts: list[int]) -> list[Row]:
    return [alone(__file__, str(n)) for n in counts]


def grow(n: int) -> Row:
    """Prepare ``n`` records that share one small file: what grows is what the program itself keeps."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "small.png"
        save_picture(path, render(draw_case(0, 0), 64).image)
        before = resident()
        every = (replace(record, image=path) for record in records([path] * n, "Heart size is normal. " * 10))
        settings, archive, engine = Settings(source="bench", size=32), Archive(Path(folder)), Engine(workers=1)
        seconds = timed(lambda: write_folder(every, Path(folder) / "out", settings, archive=archive, engine=engine))
    return {
        "images": n,
        "s": seconds,
        "images/s": n / seconds,
        "peak GB": resident(),
        "above the start GB": resident() - before,
    }


def texts(*, n: int, layers: int) -> list[Row]:
    """Distinct synthetic reports through both kinds of encoder; BERT-base has random weights, which take as long."""
    from imitate.models.text import LsaTextEncoder  # here, since every process that decodes imports this file

    reports = [report.findings or report.impression or "" for report in (compose(draw_case(1, i)) for i in range(n))]
    fitted: list[LsaTextEncoder] = []
    seconds = timed(lambda: fitted.append(LsaTextEncoder.fit(reports)))
    rows: list[dict[str, Any]] = [{"encoder": "lsa-256, fitting", "texts": n, "s": seconds}]
    rows.append({"encoder": "lsa-256", "texts": n, "s": timed(lambda: fitted[0].encode(reports))})
    few = reports[: max(32, n // 100)]
    with TemporaryDirectory() as folder:
        bert = random_bert(Path(folder), reports, layers=layers)
        rows.append({"encoder": "BERT-base, CLS", "texts": len(few), "s": timed(lambda: bert.encode(few))})
    return [row | {"texts/s": row["texts"] / row["s"]} for row in rows]


def random_bert(folder: Path, corpus: list[str], *, layers: int) -> TextEncoder:
    from transformers import BertConfig, BertModel, BertTokenizerFast  # type: ignore[attr-defined]

    from imitate.models.text import HuggingFaceTextEncoder

    words = sorted({word for text in corpus for word in text.lower().replace(".", " . ").split()})
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    BertModel(BertConfig(num_hidden_layers=layers)).save_pretrained(folder)
    return HuggingFaceTextEncoder(str(folder), revision=None, pooling="cls")


def views(*, batch: int, rounds: int) -> list[Row]:
    """The published augmentation: ours as one warp of the batch, and an image at a time by torchvision on PIL."""
    from torchvision.transforms import v2

    config, settings = ImitateConfig(), AugmentConfig()
    images = torch.randint(0, 256, (batch, 256, 256), dtype=torch.uint8)
    pictures = [Image.fromarray(image).convert("RGB") for image in images.numpy()]
    each = v2.Compose(
        [
            *(v2.RandomCrop(224), v2.RandomHorizontalFlip(), v2.RandomVerticalFlip(), v2.RandomRotation(30)),
            *(v2.RandomPerspective(0.5, 0.5), v2.RandomAutocontrast(0.5), v2.ToImage()),
            *(v2.ToDtype(torch.float32, scale=True), v2.Normalize(config.mean, config.std)),
        ]
    )
    generator = torch.Generator().manual_seed(0)
    steps = {
        "one warp a batch": lambda: warp(images, draw_views(batch, settings, config, generator), config),
        "torchvision, PIL, an image at a time": lambda: torch.stack([each(picture) for picture in pictures]),
    }
    seconds = alternate(steps, rounds=rounds)
    slow = seconds["torchvision, PIL, an image at a time"]
    return [
        {"views": name, "views/s": batch / sorted(times)[len(times) // 2], "speed over PIL": ratio(slow, times)}
        for name, times in seconds.items()
    ]


def reading(folder: Path, *, n: int, batch: int = 128) -> list[Row]:
    """Shuffled batches of 256 px from the memory map: when no page is in memory, and when all are."""
    path = folder / "map"
    path.mkdir()
    small = write_files(folder, ".png", n=1, shape=(256, 256)) * n
    write_folder(records(small), path / "data", Settings(source="bench"), archive=Archive(folder), engine=Engine(1))
    data = Corpus.open(path / "data")
    width = np.zeros((n, 256), np.float16)
    reader = BatchReader(data, {"findings": width, "impression": width})
    order = np.random.default_rng(0).permutation(n)
    chosen = [order[i : i + batch] for i in range(0, n, batch)]
    rows = []
    for state in ("cold", "warm"):
        if state == "cold" and hasattr(os, "posix_fadvise"):
            for path in data.image_files():  # none is mapped yet
                descriptor = os.open(path, os.O_RDONLY)
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)
        seconds = timed(lambda: [reader(rows) for rows in chosen])
        rows.append({"memory map": state, "images": n, "images/s": n / seconds, "MB/s": n * 0.065536 / seconds})
    return rows


def main() -> None:
    arguments = options(__doc__).parse_args()
    if arguments.only:
        print(json.dumps(grow(int(arguments.only))))
        return
    quick = arguments.quick
    shape = (764, 636) if quick else FULL
    with TemporaryDirectory() as name:
        folder = Path(name)
        tables = {
            "preparing": preparing(
                folder, distinct=2 if quick else 16, repeat=2 if quick else 16, rounds=1 if quick else 3, shape=shape
            ),
            "scaled": scaled(folder, n=2 if quick else 8, shape=shape, rounds=1 if quick else 5),
            "growth": growth([500, 1000] if quick else [12_500, 25_000, 50_000, 100_000]),
            "texts": texts(n=400 if quick else 20_000, layers=1 if quick else 12),
            "views": views(batch=16 if quick else 128, rounds=2 if quick else 7),
            "reading": reading(folder, n=512 if quick else 16_384),
        }
    finish(arguments, "data", tables)


if __name__ == "__main__":
    main()
