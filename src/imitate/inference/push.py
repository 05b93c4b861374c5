"""An exported folder on the Hugging Face hub: what would be public is printed before anything is sent."""

import logging
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from imitate.config.files import read_json
from imitate.data.files import files_below
from imitate.errors import UserError
from imitate.inference.calibration import FILE as CALIBRATION
from imitate.inference.onnx import RECORD as ONNX
from imitate.inference.onnx import TOKENIZER, read_record
from imitate.models import hub
from imitate.models.hub import CARD, HEADS, WEIGHTS
from imitate.models.lsa import VOCABULARY

log = logging.getLogger(__name__)
SENT = (CARD, "config.json", WEIGHTS, HEADS, CALIBRATION, "text/*.json", "text/*.safetensors", "text/*.txt",
        "text/spiece.model", ONNX, "*.onnx", "*.onnx.data", "text.npz", "tokenizer.json", VOCABULARY)  # fmt: skip
"""What imitate export writes; nothing else leaves the machine."""
FITTED = ("lsa", "bert-small")  # text encoders that are made of the training reports


class Holds(NamedTuple):
    """What an exported folder holds beside its images' side."""

    text: str = ""  # the kind of its text encoder
    trained: bool = False  # whether that has learnt from the reports
    calibrated: bool = False  # within imitate.json


def push_folder(folder: Path, repository: str, *, with_vocabulary: bool, public: bool) -> None:
    """``imitate push``.

    UserError: the folder was not exported or is not whole; it holds words of the training reports or the repository is
    public, and the flag that permits this is not given.
    """
    every = files_below(folder)
    names = [name for name in every if _is_sent(name)]
    holds = _examined(folder, names)
    remote = hub.look_up(repository, private=not public)
    stale = sorted(name for name in remote.files if _is_sent(name) and name not in names)
    words = [name for name in names if name.rpartition("/")[2] == VOCABULARY]
    origins = {name: _origin(name, holds) for name in names}
    _show(folder, origins, [name for name in every if name not in names], stale, remote)
    if words and not with_vocabulary:
        raise UserError(
            f"{folder / words[0]} lists words of the training reports: read it, then push --with-vocabulary, or export "
            "with --images-only; nothing was uploaded"
        )
    if not remote.private and not public:
        raise UserError(f"{repository} is public, and nothing was uploaded: make it private, or push --public")
    changed = hub.upload(folder, repository, names, stale=stale, public=public)
    log.info("%s %s", "pushed to" if changed else "nothing has changed since the last push to", remote.address)


def _is_sent(name: str) -> bool:
    return any(fnmatch(name, pattern) and name.count("/") == pattern.count("/") for pattern in SENT)


def _examined(folder: Path, names: list[str]) -> Holds:
    """UserError: it is no exported folder, or not a whole one: what it lacks would be removed from the repository."""
    if hub.is_onnx(folder):
        found = read_record(folder)
        return Holds(str((found["text"] or {}).get("kind", "")), calibrated=bool(found["calibration"]))
    if not {CARD, "config.json"} <= set(names):
        raise UserError(f"{folder} is not an exported folder: write one with imitate export")
    hub.check_whole(folder)
    if "text/text.json" not in names:
        return Holds()
    text = read_json(folder / "text" / "text.json", holds="what a text encoder is")
    kind = str(text.get("kind", ""))
    if kind in FITTED and f"text/{VOCABULARY}" not in names:
        raise UserError(
            f"{folder} has no text/{VOCABULARY}, which belongs to it: copy the folder again, or export it again"
        )
    return Holds(kind, trained=bool(text.get("trained")))


def _show(folder: Path, origins: dict[str, str], left: list[str], stale: list[str], remote: hub.Remote) -> None:
    """On the standard output: each file with its size, and what in it comes from reports."""
    state = "private" if remote.private else "public"
    lines = [f"{remote.address} is {state if remote.commit else f'new, and will be {state}'}. It will hold:"]
    wide = max(map(len, origins))
    for name, origin in origins.items():
        lines.append(f"  {name:{wide}}  {_size((folder / name).stat().st_size):>8}  {origin}".rstrip())
    if stale:
        lines.append(f"Removed there, though its history keeps them: {', '.join(stale)}")
    if left:
        lines.append(f"Not uploaded, since imitate export does not write it: {', '.join(left)}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _size(size: int) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size = size / 1000  # type: ignore[assignment]
    return f"{size:.3g} GB"


def _origin(name: str, holds: Holds) -> str:
    """What in a file derives from reports, or names the data that the model was trained on."""
    base, inner = name.rpartition("/")[2], name.startswith("text/")
    if base == VOCABULARY:
        return "words of the training reports"
    if base == "text.npz" or (holds.text in FITTED and (base == TOKENIZER or (inner and base != "text.json"))):
        return "computed from the training reports"
    if inner and base.endswith(".safetensors"):
        return f"weights of a text encoder{', trained on the reports' if holds.trained else ''}"
    if base.endswith((".safetensors", ".onnx", ".onnx.data")):
        return "weights, trained on images and reports"
    if base == CALIBRATION:
        return "prompts, and counts of the images that it was calibrated on"
    if base == ONNX:
        counts = ", counts of the images that they were calibrated on" if holds.calibrated else ""
        return f"classes and their prompts{counts}"
    return "names and sizes of the training data" if base == CARD else ""
