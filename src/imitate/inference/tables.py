"""What a Predictor says, as files: tables, arrays and pictures."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from imitate.data.corpus import Corpus
from imitate.data.pixels import read_gray
from imitate.data.words import cell, shown
from imitate.errors import UserError
from imitate.inference.calibration import UNCALIBRATED
from imitate.inference.inputs import find_images
from imitate.inference.predictor import Predictor, load
from imitate.inference.prompts import parse_prompts
from imitate.inference.radiograph import Radiograph
from imitate.names import Branch

log = logging.getLogger(__name__)
Action = Literal["classify", "retrieve", "heatmap", "embed"]
OPACITY = 0.5
CALIBRATION = "calibration"  # the column that says which probabilities are calibrated


class Request(NamedTuple):
    """What is asked, apart from the model."""

    images: tuple[Path, ...]
    text: tuple[str, ...]
    prompts: tuple[str, ...]
    prepared: Path | None
    k: int
    branch: Branch
    temperature: float | None
    out: str
    calibration: Path | None = None
    decide: bool = False
    language: str | None = None


def respond(action: Action, request: Request, *, model: str, device: str) -> None:
    """Read the model, carry out the request and write what it asks for."""
    request = request._replace(images=_files(request.images))
    _check(action, request)
    ACTIONS[action](load(model, device=device, calibration=request.calibration), request)


def overlay(gray: np.ndarray, heat: np.ndarray, opacity: float = OPACITY) -> Image.Image:
    """The image with the map over it: the hotter, the more opaque; where the map is 0, the image alone."""
    import matplotlib

    low, high = float(gray.min()), float(gray.max())
    under = (gray.astype(np.float32) - low) / max(high - low, 1e-6)
    colours = matplotlib.colormaps["inferno"](heat)[..., :3]
    cover = (opacity * heat)[..., None]
    return Image.fromarray(((under[..., None] * (1 - cover) + colours * cover) * 255).round().astype(np.uint8))


def _classify(predictor: Predictor, request: Request) -> None:
    table = predictor.classify(
        _readable(predictor, request.images),
        parse_prompts(request.prompts),
        branch=request.branch,
        temperature=request.temperature,
        language=request.language,
        decide=request.decide,
    )
    found: dict[str, str] = table.attrs["calibration"]
    for text in dict.fromkeys(found.values()):
        log.info("%s: %s", ", ".join(name for name, about in found.items() if about == text), text)
    table = table.reset_index()
    if CALIBRATION not in table:  # a class of this name stays
        table = table.assign(**{CALIBRATION: _summary(predictor, found)})
    _write(_table(table, request.out), request.out)


def _summary(predictor: Predictor, found: Mapping[str, str]) -> str:
    """Which columns are calibrated probabilities, for every line of a table."""
    bare = [name for name, about in found.items() if about.startswith(UNCALIBRATED)]
    if predictor.calibration is None or len(bare) == len(found):
        return UNCALIBRATED
    about = predictor.calibration.provenance
    return f"{about}; {UNCALIBRATED}: {', '.join(bare)}" if bare else about


def _retrieve(predictor: Predictor, request: Request) -> None:
    assert request.prepared is not None
    index = Corpus.open(request.prepared, size=predictor.encoder.preprocessing.prepared_size)
    found = []
    for text in request.text:
        table = predictor.retrieve(text=text, index=index, k=request.k, branch=request.branch)
        found.append(table.assign(query=text))
    for image in _readable(predictor, request.images) if request.images else ():
        table = predictor.retrieve(image=image, index=index, k=request.k, branch=request.branch)
        found.append(table.assign(query=image.name))
    ranked = pd.concat([table.assign(rank=np.arange(1, len(table) + 1)) for table in found])
    first = ["query", "rank"]
    _write(_table(ranked[[*first, *ranked.columns.drop(first)]], request.out), request.out)


def _heatmap(predictor: Predictor, request: Request) -> None:
    several = Path(request.out) if request.out != "-" and not Path(request.out).suffix else None
    files = {shown(str(path)): path for path in request.images}
    for image in _readable(predictor, request.images):
        heat = predictor.heatmap(image, request.text[0], branch=request.branch)
        out = request.out if several is None else str(several / f"{files[image.name].stem}.png")
        content = BytesIO()
        if out.endswith(".npy"):
            np.save(content, heat, allow_pickle=False)
        else:
            overlay(read_gray(files[image.name]), heat).save(content, "PNG")
        _write(content.getvalue(), out)


def _embed(predictor: Predictor, request: Request) -> None:
    names = list(request.text)
    if request.text:
        vectors = predictor.embed_texts(request.text, branch=request.branch)
    else:
        images = _noting(_readable(predictor, request.images), names)
        vectors = predictor.embed_images(images, branch=request.branch)
    content = BytesIO()
    if request.out.endswith(".npy"):
        np.save(content, vectors, allow_pickle=False)
    elif request.out.endswith(".npz"):
        np.savez(content, name=np.array(names), vector=vectors)
    else:
        content.write(_table(pd.DataFrame(vectors).assign(name=names).set_index("name").reset_index(), request.out))
    _write(content.getvalue(), request.out)


def _noting(images: Iterator[Radiograph], names: list[str]) -> Iterator[Radiograph]:
    for image in images:
        names.append(image.name)
        yield image


ACTIONS: dict[Action, Callable[[Predictor, Request], None]] = {
    "classify": _classify,
    "retrieve": _retrieve,
    "heatmap": _heatmap,
    "embed": _embed,
}
SUFFIXES: dict[Action, tuple[str, ...]] = {
    "classify": (".csv", ".json"),
    "retrieve": (".csv", ".json"),
    "heatmap": (".png", ".npy", ""),
    "embed": (".npy", ".npz", ".csv"),
}


def _check(action: Action, request: Request) -> None:
    """What is missing or cannot be, before the model is read."""
    out = Path(request.out)
    wanted = {
        "classify": (bool(request.images), "--images"),
        "retrieve": (
            request.prepared is not None and bool(request.images or request.text),
            "--index, and --images or --text",
        ),
        "heatmap": (bool(request.images) and len(request.text) == 1, "--images, and one --text"),
        "embed": (bool(request.images) != bool(request.text), "either --images or --text"),
    }
    enough, need = wanted[action]
    if not enough:
        raise UserError(f"{action} needs {need}")
    if request.out != "-" and out.suffix not in SUFFIXES[action]:
        known = ", ".join(suffix or "a folder" for suffix in SUFFIXES[action])
        raise UserError(f"--out {out}: {action} writes {known}, or - for standard output")
    if request.out == "-" and action == "heatmap" and sys.stdout.isatty():
        raise UserError(
            "a heat-map is a PNG file, which a terminal cannot show: give --out map.png, or redirect the output"
        )
    if action == "heatmap" and len(request.images) > 1 and (request.out == "-" or out.suffix):
        raise UserError(f"--out {out} holds one map, but there are {len(request.images)} images: give a folder")
    if action == "heatmap" and len({path.stem for path in request.images}) < len(request.images):
        raise UserError("two images have the same name, so their maps would overwrite each other: run them separately")


def _files(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """Folders give the radiographs below them, as ``find_images`` lists them."""
    return tuple(file for path in paths for file in (find_images(path) if path.is_dir() else [path]))


def _readable(predictor: Predictor, paths: tuple[Path, ...]) -> Iterator[Radiograph]:
    """Each as it is needed, named as ``shown``. One that cannot be used is excluded with a warning; UserError where
    none can be used."""
    used = 0
    for path in paths:
        try:
            image = predictor.read(path)
        except UserError as error:
            if len(paths) == 1:
                raise
            log.warning("excluded: %s", error)
        else:
            used += 1
            yield image._replace(name=shown(image.name))
    if not used:
        raise UserError(f"none of the {len(paths)} images can be used")


def _table(table: pd.DataFrame, out: str) -> bytes:
    """Names of files and classes come from outside: in a CSV file none of them is a formula."""
    if out.endswith(".json"):
        return f"{table.to_json(orient='records', indent=1, force_ascii=False)}\n".encode()

    def text(value: object) -> object:
        return cell(value) if isinstance(value, str) else value

    words = {name: table[name].map(text) for name in table.select_dtypes(exclude="number").columns}
    return table.assign(**words).rename(columns=text).to_csv(index=False, float_format="%.6g").encode()


def _write(content: bytes, out: str) -> None:
    if out == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    path = Path(out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    log.info("wrote %s", path)
