"""A trained model as others load it: a folder for the hub, or weights for timm and torchvision."""

import logging
import shutil
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Literal, NamedTuple

from safetensors.torch import save_file

from imitate.config import ImitateConfig, data_of, read_yaml
from imitate.data.folder import open_folder
from imitate.errors import UserError
from imitate.inference.calibration import FILE, calibration_of
from imitate.inference.encoder import ImitateEncoder, load_folder
from imitate.models import hub
from imitate.models.image import ImageEncoder
from imitate.models.lsa import VOCABULARY
from imitate.models.text import Fitted, save_text_encoder

log = logging.getLogger(__name__)
Format = Literal["hub", "timm"]
CARD = "README.md"
TORCHVISION = {"resnet18", "resnet34", "resnet50", "resnet101", "resnet152"}
UNKNOWN = "not recorded"
UNAUDITED = (
    "Not audited: how its errors differ by sex, age or other groups is unknown (`imitate audit`, then\n"
    "`imitate export --audit`)."
)


class Groups(NamedTuple):
    """What an audit found of groups of patients, for the card."""

    text: str
    weights: list[str]  # the identity of each encoder that was audited


def export_model(model: str, to: Path, *, format: Format, license: str, groups: Groups | None = None) -> None:
    """``imitate export``."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{to} exists and is not an empty folder: choose another --to")
    source = hub.local_folder(model)
    encoder = load_folder(source)
    if format == "hub":
        if groups and encoder.identity not in groups.weights:
            raise UserError(f"the audit is of another model than {model}: audit this one")
        said = {"groups": groups.text if groups else UNAUDITED}
        write_hub(encoder, to, _facts(source) | said, license=license)
        if found := calibration_of(encoder, source):
            found.save(to / FILE)
    else:
        write_timm(encoder.model.image, encoder.model.config, to)
    log.info("wrote %s: %s says how to load it", to, to / CARD)


def push_folder(folder: Path, repository: str, *, with_vocabulary: bool, public: bool) -> None:
    """``imitate push``. UserError: the folder is no exported one, or holds words of the training reports, unasked."""
    if not all((folder / name).is_file() for name in (CARD, "config.json")):
        raise UserError(f"{folder} is no exported folder: write one with imitate export")
    vocabulary = folder / "text" / VOCABULARY
    if vocabulary.is_file() and not with_vocabulary:
        raise UserError(f"{vocabulary} lists words of the training reports: read it, then push --with-vocabulary")
    log.info("pushed to %s", hub.push(folder, repository, public=public))


def write_hub(encoder: ImitateEncoder, to: Path, facts: dict[str, str], *, license: str) -> None:
    """A folder that ``load`` and ``Imitate.from_pretrained`` read, here or on the hub."""
    encoder.model.save(to)
    vocabulary = ""
    if encoder.text is not None:
        save_text_encoder(encoder.text, to / "text")
    if isinstance(encoder.text, Fitted):
        vocabulary = "The text encoder's vocabulary lists words of the training reports."
        log.warning("%s lists words of the training reports: read it before you share it", to / "text" / VOCABULARY)
    config = encoder.model.config
    card = Template(files("imitate").joinpath("model_card.md").read_text(encoding="utf-8")).substitute(
        facts,
        **config.model_dump(include={"backbone", "resize", "prepared_size", "image_size"}),
        license=license,
        name=to.resolve().name,
        parameters=f"{sum(each.numel() for each in encoder.model.parameters()) / 1e6:.1f}",
        text=encoder.text.name if encoder.text else "none: images only",
        vocabulary=vocabulary,
    )
    (to / CARD).write_text(card.rstrip() + "\n", encoding="utf-8")


def write_timm(encoder: ImageEncoder, config: ImitateConfig, to: Path) -> None:
    """The weights under timm's names, which for a plain ResNet are torchvision's; a README with the line that loads."""
    to.mkdir(parents=True, exist_ok=True)
    file = f"{encoder.name.replace('/', '-')}.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in encoder.network.state_dict().items()}, to / file)
    options = "".join(f", {key}={value!r}" for key, value in encoder.options.items())
    lines = [
        f"# {encoder.name}, pre-trained with IMITATE",
        "",
        "```python",
        f'timm.create_model("{encoder.name}", num_classes=0, checkpoint_path="{file}"{options})',
        "```",
        "",
        f"Images: gray in three channels, {config.resize} to {config.prepared_size} px, centre crop "
        f"{config.image_size} px, values in 0..1, mean {list(config.mean)}, std {list(config.std)}.",
    ]
    base = encoder.name.split(".")[0]
    if base in TORCHVISION and not encoder.options:
        lines += [
            *("", "The names are also torchvision's; only its fc is missing:", "", "```python"),
            f'torchvision.models.{base}().load_state_dict(safetensors.torch.load_file("{file}"), strict=False)',
            "```",
        ]
    (to / CARD).write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.copymode(to / CARD, to / file)  # else 0600


def _facts(source: Path) -> dict[str, str]:
    """Data and training, as far as the run folder and its prepared folder tell; no path, no patient."""
    found = [folder / "config.yaml" for folder in (source, source.parent) if (folder / "config.yaml").is_file()]
    if not found:
        return {"data": UNKNOWN, "training": UNKNOWN}
    values = read_yaml(found[0], holds="a run's settings")
    training, data = values["training"], data_of(values["data"])
    return {
        "data": "; ".join(map(_data, map(Path, data["paths"]), data["fingerprints"])),
        "training": f"{training['epochs']} epochs, global batch {training['batch_size']}, seed {training['seed']}, "
        f"objective {values['objective']['name']}",
    }


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
