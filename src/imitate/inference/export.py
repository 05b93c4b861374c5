"""A trained model as a folder for others: imitate, timm and transformers read it, here or on the hub."""

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError

from imitate.config.digests import record_digest, sha256
from imitate.data.files import PART, files_below
from imitate.errors import UserError
from imitate.inference.calibration import FILE, calibration_of
from imitate.inference.card import UNAUDITED, card, facts_of
from imitate.inference.encoder import ImitateEncoder, load_folder
from imitate.models import exported, hub, peers
from imitate.models.hub import CARD, OWN
from imitate.models.lsa import VOCABULARY
from imitate.models.text import Fitted, save_text_encoder

log = logging.getLogger(__name__)


class Groups(NamedTuple):
    """What an audit found of groups of patients, for the card."""

    text: str
    weights: list[str]  # the identity of each encoder that was audited


def export_model(
    model: str, to: Path, *, license: str = "other", images_only: bool = False, groups: Groups | None = None
) -> None:
    """``imitate export``. Nothing is left of an export that fails."""
    check_place(to)
    source = hub.local_folder(model)
    if not hub.is_ours(source) and (found := peers.find_peer(source)):
        _refuse(model, found.family)
    encoder, license = load_folder(source), " ".join(license.split())
    if groups and encoder.identity not in groups.weights:
        raise UserError(f"the audit is of a different model than {model}: run imitate audit for this one")
    calibration = None if images_only else calibration_of(encoder, source)
    facts = facts_of(source) | {"groups": groups.text if groups else UNAUDITED}
    if images_only:
        encoder = ImitateEncoder(encoder.name, encoder.model)
    with whole(to) as part:
        exported.save(encoder.model, part)
        if encoder.text is not None:
            save_text_encoder(encoder.text, part / "text")
        if calibration:
            calibration.save(part / FILE)
        unread = exported.unread(part, encoder.model)
        name = to.resolve().name
        text = card(encoder, name=name, license=license, facts=facts, unread=unread)
        (part / CARD).write_text(text, encoding="utf-8")
        seal(part)
    for reader, why in unread.items():
        log.warning("%s cannot load %s: %s", reader, to, why)
    if isinstance(encoder.text, Fitted):
        log.warning("%s lists words of the training reports: read it before you share it", to / "text" / VOCABULARY)
    log.info("wrote %s: %s says how to load it", to, to / CARD)


def seal(folder: Path) -> None:
    """Note the digests of all files but the card in config.json: ``Imitate.from_pretrained`` checks them.

    Of a calibration, which can be made anew, it checks that it is there.
    """
    path = folder / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    names = [name for name in files_below(folder) if name not in (path.name, CARD)]
    record = {**values[OWN], "files": {name: "" if name == FILE else sha256(folder / name) for name in names}}
    values[OWN] = {**record, "digest": record_digest(record)}
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _refuse(model: str, family: peers.Family) -> None:
    if family.name == peers.PLAIN.name:  # without heads, or the released model
        raise UserError(f"{model} is a file of weights ({family.title}): convert it with imitate import first")
    raise UserError(
        f"{model} is {family.title}, a model of another group: imitate export writes only models of imitate; if its "
        "licence permits, share the folder that imitate import writes"
    )


def check_place(to: Path) -> None:
    """UserError where something lies there already."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{to} exists and is not an empty folder: choose another --to")
    if to.resolve() == Path.cwd():
        raise UserError(f"{to} is the current folder, which is replaced by the new one: choose another --to")


@contextmanager
def whole(to: Path) -> Iterator[Path]:
    """Yield a folder beside ``to`` that takes its place at the end; after an error nothing is left."""
    place = to.resolve()  # of a link, what it leads to
    part = place.with_name(f".{place.name}{PART}")
    shutil.rmtree(part, ignore_errors=True)  # of one that was killed
    try:
        part.mkdir(parents=True)
        yield part
        if place.is_dir():  # an empty one, over which only POSIX renames
            place.rmdir()
        part.rename(place)
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UserError(f"cannot write {to} ({why}): choose another --to") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
