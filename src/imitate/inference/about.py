"""``imitate models``: the published encoders that can be read, what a file is, and vectors to compare."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from imitate.data.pixels import to_prepared
from imitate.errors import UserError
from imitate.inference.encoder import Encoder, load_folder
from imitate.inference.peer import PeerEncoder, load_peer
from imitate.models import peers
from imitate.models.hub import is_ours, local_folder
from imitate.models.peers.base import Family

SENTENCES = (
    "No acute cardiopulmonary process.",
    "There is a large left pleural effusion.",
    "The heart is enlarged.",
    "No pneumothorax.",
    "Patchy opacity in the right lower lobe, which may be pneumonia.",
    "Pulmonary edema",
)
COUNT, SIDES = 6, ((512, 640), (640, 512), (512, 512))
SHOWN = 8


def families() -> None:
    """The table of ``imitate models``."""
    rows = [
        {"name": each.name, "model": each.title, "gives": ", ".join(each.gives), "licence": each.licence,
         "where": each.where}
        for each in (*peers.FAMILIES, peers.PLAIN)
    ]  # fmt: skip
    sys.stdout.write(pd.DataFrame(rows).to_markdown(index=False) + "\n")


def describe(path: Path, *, selftest: bool = False) -> None:
    """What a file or folder is. UserError: why it cannot be read."""
    encoder = _encoder(local_folder(path))
    facts = _facts(encoder)
    width = max(map(len, facts))
    sys.stdout.writelines(f"{name:{width}}  {value}\n" for name, value in facts.items())
    if selftest:
        sys.stdout.writelines(f"{line}\n" for line in selftest_lines(encoder))


def _encoder(path: Path) -> Encoder:
    encoder = load_folder(path) if is_ours(path) else load_peer(path)
    if encoder is None:
        near = ", ".join(each.name for each in peers.FAMILIES)
        raise UserError(f"the tensors of {path} match no known encoder; known are {near}")
    return encoder


def _facts(encoder: Encoder) -> dict[str, str]:
    wanted = encoder.preprocessing
    made = f"{wanted.prepared_size} px by {wanted.resize}, the central {wanted.image_size} px, values from "
    made += f"{wanted.range[0]:g} to {wanted.range[1]:g}, mean {_listed(wanted.mean)}, std {_listed(wanted.std)}"
    facts = {"model": encoder.backbone, "images": made, "features": f"{encoder.image.width}"}
    if isinstance(encoder, PeerEncoder):
        family: Family = encoder.family
        facts |= {"name": family.name, "gives": ", ".join(family.gives)}
        facts |= {"licence": family.licence, "where": family.where, "verified": f"against {family.verified}, without "
                  "the published weights"}  # fmt: skip
        if "text vectors" in family.gives:
            facts["text"] = "can be read" if encoder.has_text else encoder.lacks
        elif family.companion:
            facts["text"] = "read by --authors" if encoder.asks else encoder.lacks
        if family.note:
            facts["note"] = family.note
    else:
        facts["text"] = encoder.text.name if encoder.text is not None and encoder.has_text else encoder.lacks
    return facts


def _listed(values: tuple[float, ...]) -> str:
    distinct = values[:1] if len(set(values)) == 1 else values
    return " ".join(f"{value:.4g}" for value in distinct)


def selftest_images() -> list[np.ndarray]:
    """Gray values of pictures that are made of cosines, the same on every machine."""
    made = []
    for number in range(COUNT):
        height, width = SIDES[number % len(SIDES)]
        y, x = np.mgrid[0:height, 0:width]
        waves = np.cos(x * (number + 1) / 37) + np.cos(y * (number + 2) / 53) + np.cos((x + y) * (number + 3) / 101)
        made.append(np.round((waves + 3) / 6 * 255).astype(np.uint8))
    return made


@torch.inference_mode()
def selftest_lines(encoder: Encoder) -> list[str]:
    """The norm and the first numbers of each vector, to three decimals, before they are brought to length 1."""
    wanted = encoder.preprocessing
    lines = []
    for number, gray in enumerate(selftest_images(), 1):
        square, _ = to_prepared(gray, wanted.prepared_size, wanted.resize, percentiles=wanted.percentiles)
        found, _features = encoder.look(encoder.prepare(torch.from_numpy(square[None])))
        for name, vector in found.items():
            lines.append(f"image {number} {name}: {_shown(vector[0])}")
    if isinstance(encoder, PeerEncoder) and encoder.text is not None:
        vectors = encoder.text.encode(list(SENTENCES))
        lines += [f"text {number}: {_shown(vector)}" for number, vector in enumerate(vectors, 1)]
    return lines


def _shown(vector: torch.Tensor) -> str:
    return " ".join(f"{value:.3f}" for value in (float(vector.norm()), *vector[:SHOWN].tolist()))
