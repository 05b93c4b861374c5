"""Frozen text encoders: LSA and a small BERT, fitted on the corpus, and those of Hugging Face transformers."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imitate.config.files import read_json
from imitate.errors import UserError
from imitate.models import lsa, small_bert
from imitate.models.hub import run_of
from imitate.models.hugging_face import POOLING, HuggingFaceTextEncoder, clean
from imitate.models.lsa import LsaTextEncoder
from imitate.models.small_bert import SmallBertTextEncoder
from imitate.models.types import TextEncoder

Fitted = LsaTextEncoder | SmallBertTextEncoder
"""Those that know the words of the reports that they were fitted on; their folder lists them in VOCABULARY."""


def fit_or_load(spec: str, corpus: list[str]) -> TextEncoder:
    """A recipe's text encoder: ``lsa[-<width>]`` or ``bert-small[:<steps>]`` fitted on the corpus, or one of the hub,
    ``hf:<id>@<revision>[:<pooling>]``."""
    if match := re.fullmatch(r"lsa(?:-(\d+))?", spec):
        return LsaTextEncoder.fit(corpus, width=int(match[1] or lsa.WIDTH))
    if match := re.fullmatch(r"bert-small(?::(\d{1,7}))?", spec):
        return SmallBertTextEncoder.fit(corpus, steps=int(match[1] or small_bert.STEPS))
    if match := re.fullmatch(r"hf:(?P<name>[^@]+?)(?:@(?P<revision>[\w./-]+))?(?::(?P<pooling>cls|mean|last))?", spec):
        return HuggingFaceTextEncoder(match["name"], revision=match["revision"], pooling=match["pooling"])
    raise UserError(
        f"unknown text encoder {spec!r}: give lsa, lsa-<width>, bert-small, bert-small:<steps> or "
        "hf:<id>@<revision>[:cls|mean|last]"
    )


def could_be(encoder: TextEncoder, spec: str) -> bool:
    """Whether a recipe's ``text`` asks for an encoder of this kind; for one that is fitted, on whatever reports."""
    assert isinstance(encoder, LsaTextEncoder | HuggingFaceTextEncoder)
    kind = encoder.record["kind"]
    if fitted := re.fullmatch(r"(lsa|bert-small)(?:-(\d+))?(?::\d+)?", spec):
        return fitted[1] == kind and encoder.width <= int(fitted[2] or encoder.width)
    wanted, _, pooling = spec.removeprefix("hf:").partition(":")
    source = clean(wanted if "@" in wanted else Path(wanted).resolve().name)
    digest = "" if "@" in wanted else "-[0-9a-f]{8}"
    named = re.fullmatch(f"{re.escape(source)}{digest}-{pooling or '(cls|last)'}(-trained)?", encoder.name)
    return kind == "hf" and named is not None


def save_text_encoder(encoder: TextEncoder, folder: Path) -> None:
    """Whatever is needed to load the encoder again without the network, over an earlier one or none.

    Each file at once, ``text.json`` last: with it, the encoder is whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    assert isinstance(encoder, LsaTextEncoder | HuggingFaceTextEncoder)
    part = folder / "part"
    shutil.rmtree(part, ignore_errors=True)  # of one that was killed
    part.mkdir()
    encoder.save(part)
    record = part / "text.json"
    record.write_text(json.dumps({**encoder.record, "identity": encoder.identity}), encoding="utf-8")
    for path in sorted(part.iterdir(), key=lambda path: path == record):
        shutil.copymode(record, path)  # safetensors: else 0600
        path.replace(folder / path.name)
    part.rmdir()


def load_text_encoder(folder: Path) -> TextEncoder:
    if not (folder / "text.json").is_file():
        raise UserError(f"no text encoder at {folder}: it must hold text.json")
    record = read_json(folder / "text.json", holds="what a text encoder is")
    if record.get("kind") == "lsa":
        return LsaTextEncoder.load(folder)
    small = record.get("kind") == "bert-small"
    known = small or (record.get("kind") == "hf" and record.get("pooling") in POOLING)
    if not known or not isinstance(record.get("name"), str):
        raise UserError(f"{folder / 'text.json'} is damaged: it must hold kind, name and pooling of a text encoder")
    record.pop("identity", None)
    if small:
        return SmallBertTextEncoder(folder, record=record)
    return HuggingFaceTextEncoder(str(folder), revision=None, pooling=record["pooling"], record=record)


def text_beside(folder: Path) -> TextEncoder | None:
    """That of a run, of a model within a run, or of an exported model: one that was trained lies within the model."""
    places = [folder / "model", folder] if (folder / "model").is_dir() else [folder, run_of(folder) or folder]
    found = [each / "text" for each in places if (each / "text" / "text.json").is_file()]
    return load_text_encoder(found[0]) if found else None


def place(encoder: TextEncoder, device: str) -> None:
    """Where to compute from now on; LSA needs no device."""
    if isinstance(encoder, HuggingFaceTextEncoder):
        encoder.to(device)


@contextmanager
def placed(encoder: TextEncoder, device: str) -> Iterator[None]:
    """On the device for the duration, whose memory is given back at the end."""
    place(encoder, device)
    try:
        yield
    finally:
        place(encoder, "cpu")
