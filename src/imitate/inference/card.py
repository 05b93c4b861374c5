"""The model card of an exported folder: what it is, where it comes from, and what can load it."""

import logging
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from imitate.config import ImitateConfig, data_of, read_yaml
from imitate.data.folder import open_folder
from imitate.errors import UserError
from imitate.inference.encoder import ImitateEncoder
from imitate.inference.tones import in_words
from imitate.models import hub
from imitate.models.exported import READERS, timm_preprocessing
from imitate.models.text import Fitted

log = logging.getLogger(__name__)
TORCHVISION = {"resnet18", "resnet34", "resnet50", "resnet101", "resnet152"}
UNKNOWN = "not recorded"
UNAUDITED = (
    "Not audited: how its errors differ by sex, age or other groups is unknown (`imitate audit`, then\n"
    "`imitate export --audit`)."
)
TEXTS = {
    "findings": "the Findings",
    "impression": "the Impression",
    "report": "the whole report",
    "sentences": "single sentences",
}
WORDS = " The text encoder's vocabulary lists words of the training reports."


def card(
    encoder: ImitateEncoder, *, name: str, license: str, facts: Mapping[str, str], unread: Mapping[str, str]
) -> str:
    """``unread`` says which readers cannot load the folder, and why; ``facts`` are data, training and groups."""
    config = encoder.model.config
    base = config.backbone.partition(".")[0]
    plain = base in TORCHVISION and not config.backbone_options and "timm" not in unread
    return _filled(
        "model_card.md",
        facts,
        **config.model_dump(include={"backbone", "resize", "prepared_size", "image_size"}),
        **_preprocessing(config),
        alignment=_alignment(config),
        from_reports=config.reads_text,
        radiograph=f"radiograph ({_joined(config.projections)})" if config.projections else "frontal radiograph",
        license=license,
        name=name,
        parameters=f"{sum(each.numel() for each in encoder.model.parameters()) / 1e6:.1f}",
        text=encoder.text.name if encoder.text else "none: images only",
        reads_text=encoder.has_text,
        vocabulary=WORDS if isinstance(encoder.text, Fitted) else "",
        readers=[reader for reader in READERS if reader not in unread],
        unread=unread,
        torchvision=base if plain else "",
    )


def onnx_card(record: Mapping[str, Any], *, images: str, vocabulary: bool) -> str:
    """``record`` is ``imitate.json``, ``images`` says how to prepare them."""
    facts = {"classifier": None, **record, "images": images, "vocabulary": WORDS if vocabulary else ""}
    return _filled("onnx_card.md", **facts)


def _filled(template: str, *facts: Mapping[str, Any], **more: Any) -> str:
    words = files("imitate").joinpath(template).read_text(encoding="utf-8")
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(words).render(*facts, **more).rstrip() + "\n"


def _alignment(config: ImitateConfig) -> str:
    """Which features of the image were aligned with which texts."""
    named = f"`{config.objective}`" if config.objective else UNKNOWN
    if not config.reads_text:
        return f"Its objective ({named}) uses no text"
    if config.levels:
        named += f", aggregation `{config.aggregation}`"
    deepest = "the pooled feature of the deepest level"
    every = f"the features of levels {_joined(map(str, config.levels))}" if config.levels else deepest
    texts: dict[str, list[str]] = {}
    for branch in config.branches:
        hierarchy = branch == "findings" or config.aggregation != "channels"
        read = texts.setdefault(every if hierarchy else deepest, [])
        read += [TEXTS[level.text] for level in config.text_levels if level.branch == branch]
    aligned = (f"{features} with {_joined(dict.fromkeys(read))}" for features, read in texts.items())
    return f"Its objective ({named}) aligns {', and '.join(aligned)}"


def _joined(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _preprocessing(config: ImitateConfig) -> dict[str, Any]:
    """What imitate does to an image beside what timm does."""
    timm = timm_preprocessing(config)
    dicom, gray = in_words(config)
    black, white = config.range
    values = "" if config.range == (0, 1) else f", of values from {black:g} to {white:g}"
    return {
        "dicom": dicom,
        "gray": gray,
        "filter": config.resize.partition("-")[2] or "bilinear",
        "timm": timm,
        "border": ", padded with the mean gray" if timm["crop_mode"] == "border" else "",
        "mode": "L" if config.channels == 1 else "RGB",
        "channels": "one" if config.channels == 1 else f"gray in {config.channels} channels",
        "statistics": f"{_listed(config.mean)} and {_listed(config.std)}{values}",
        "timm_statistics": f"{_listed(timm['mean'])} and {_listed(timm['std'])}, of values from 0 to 1"
        if values
        else "the same",
    }


def _listed(values: tuple[float, ...] | list[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def facts_of(source: Path) -> dict[str, str]:
    """Data and training, as far as the run folder and its prepared folder say; no path, no patient."""
    places = [source, hub.run_of(source) or source]
    found = [folder / "config.yaml" for folder in places if (folder / "config.yaml").is_file()]
    if not found:
        return {"data": UNKNOWN, "training": UNKNOWN}
    try:
        values = read_yaml(found[0], holds="a run's settings")
        training, data = values["training"], data_of(values["data"])
        return {
            "data": "; ".join(map(_data, map(Path, data["paths"]), data["fingerprints"])),
            "training": f"{_length(training)}, global batch {training['batch_size']}, seed {training['seed']}, "
            f"objective {values['objective']['name']}{_moment(source)}",
        }
    except (UserError, KeyError, TypeError, AttributeError) as error:  # cut short, or of another program
        log.warning("the card does not say what the model was trained on: %s holds no settings of a run (%s)",
                    found[0], error if isinstance(error, UserError) else type(error).__name__)  # fmt: skip
        return {"data": UNKNOWN, "training": UNKNOWN}


def _moment(source: Path) -> str:
    """Which weights of the run these are, where they are not those of its end."""
    if (place := source.resolve()).parent.name in ("snapshots", "top"):
        return f"; these are its weights of {place.name}"
    if place.name == "best":
        return "; these are its weights of the best validation"
    where = hub.unfinished(source if (source / "model").is_dir() else hub.run_of(source) or source)
    return f"; interrupted at {where}, these are its weights of the last validation" if where else ""


def _length(training: Mapping[str, Any]) -> str:
    return f"{training['steps']} steps" if training.get("steps") else f"{training['epochs']} epochs"


def _data(folder: Path, fingerprint: str) -> str:
    """The size is known where the prepared folder still is what it was."""
    named = f"{folder.name}, fingerprint {fingerprint[:12]}"
    try:
        meta = open_folder(folder).meta
    except UserError:
        return named
    if meta["fingerprint"] != fingerprint:
        return named
    splits = ", ".join(f"{count:,} {name}" for name, count in meta.get("splits", {}).items())
    size = f"{meta['images']:,} images of {meta['patients']:,} patients"
    return f"{named}: {meta['source']}, {size}{f' ({splits})' if splits else ''}"
