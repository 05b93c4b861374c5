"""A model as a folder that timm and transformers read, too.

config.json        timm's settings of the image encoder; ours under "imitate", with digests of the other files
model.safetensors  the image encoder, under timm's names
heads.safetensors  the rest of the model
"""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from imitate.config import Preprocessing
from imitate.models.hub import HEADS, OWN, WEIGHTS, hushed
from imitate.models.hugging_face import quiet
from imitate.models.imitate import FORMAT_VERSION, NETWORK, Imitate
from imitate.models.types import Images

TOLERANCE = 1e-5
CROPS = {"stretch": "squash", "letterbox": "border", "pad": "border", "frame": "border", "crop": "center",
         "middle": "center"}  # fmt: skip
"""The way of timm that comes closest to one of ``names.Resize``."""
KEPT = ("fixed_input_size", "first_conv", "classifier")  # of what timm knows of a network


def save(model: Imitate, folder: Path) -> None:
    """Write the three files into a folder that is there."""
    values = {**timm_config(model), OWN: {"format_version": FORMAT_VERSION, **model.config.model_dump(mode="json")}}
    (folder / "config.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    network = {name.removeprefix(NETWORK): each for name, each in state.items() if name.startswith(NETWORK)}
    heads = {name: each for name, each in state.items() if not name.startswith(NETWORK)}
    for file, tensors in ((WEIGHTS, network), (HEADS, heads)):
        save_file(tensors, folder / file, metadata={"format": "pt"})  # which transformers asks for
        shutil.copymode(folder / "config.json", folder / file)  # else 0600


def timm_config(model: Imitate) -> dict[str, Any]:
    """What timm writes as ``config.json``: the architecture, its options, and how images are made for it."""
    own, network = model.config, model.image.network
    known = network.pretrained_cfg or {}
    return {
        "architecture": own.backbone.partition(".")[0],
        "num_classes": 0,
        "num_features": network.num_features,
        "model_args": dict(model.image.options),
        "pretrained_cfg": {
            "input_size": [own.channels, own.image_size, own.image_size],
            "num_classes": 0,
            **{name: known[name] for name in KEPT if name in known},
            **timm_preprocessing(own),
        },
    }


def timm_preprocessing(own: Preprocessing) -> dict[str, Any]:
    """The nearest that timm has: its gray values are in 0..1, and it neither trims borders nor stretches contrast."""
    way, _, filter_ = own.resize.partition("-")
    black, white = own.range
    crop = own.image_size / own.prepared_size
    while math.floor(own.image_size / crop) < own.prepared_size:  # by which timm gets back the prepared size
        crop = math.nextafter(crop, 0)
    return {
        "interpolation": {"": "bilinear", "area": "box"}.get(filter_, filter_),
        "crop_mode": CROPS[way],
        "crop_pct": crop,
        "mean": [(mean - black) / (white - black) for mean in own.mean],
        "std": [std / (white - black) for std in own.std],
    }


@torch.inference_mode()
def unread(folder: Path, model: Imitate) -> dict[str, str]:
    """Which of timm and transformers do not get the image features of the model from the folder, and why."""
    own = model.config
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, own.channels, own.image_size, own.image_size, generator=generator)
    wanted = model.image(images).pooled
    found = {name: _problem(read, folder, images, wanted) for name, read in READERS.items()}
    return {name: why for name, why in found.items() if why}


def _problem(read: Callable[[Path, Images], Tensor], folder: Path, images: Images, wanted: Tensor) -> str:
    try:
        found = read(folder, images)
    except MemoryError:
        raise
    except Exception as error:  # of three libraries; the card shall name no path of this machine
        words = str(error).replace(str(folder), "the folder").split() or [type(error).__name__]
        return " ".join(words)[:200]
    if found.shape != wanted.shape:
        return f"its features have the shape {tuple(found.shape)}, not {tuple(wanted.shape)}"
    if torch.allclose(found, wanted, rtol=TOLERANCE, atol=TOLERANCE):
        return ""
    return f"its features differ by up to {(found - wanted).abs().max():.2g}"


def _by_timm(folder: Path, images: Images) -> Tensor:
    with hushed("timm"):
        model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    features: Tensor = model(images)
    return features


def _by_transformers(folder: Path, images: Images) -> Tensor:
    from transformers import AutoImageProcessor, AutoModel

    with quiet(), hushed("transformers"):  # else of the kind of image processor that it looks for first
        model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    picture = Image.new("L" if images.shape[1] == 1 else "RGB", (images.shape[3] + 9, images.shape[2] + 5))
    made = processor(picture, return_tensors="pt")["pixel_values"]
    if made.shape != images.shape:
        raise ValueError(f"its image processor makes images of the shape {tuple(made.shape)}")
    features: Tensor = model(images).pooler_output
    return features


READERS: dict[str, Callable[[Path, Images], Tensor]] = {"timm": _by_timm, "transformers": _by_transformers}
