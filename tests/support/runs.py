"""A run folder as pre-training leaves it, without the training."""

from pathlib import Path

import torch
import yaml
from folders import write_folder
from recipes import tiny_recipe

from imitate import cli
from imitate.data.corpus import Corpus
from imitate.data.text_cache import corpus
from imitate.models.imitate import seeded_model
from imitate.models.text import LsaTextEncoder, save_text_encoder
from imitate.models.types import TextEncoder

SAID = ("There is pulmonary edema.", "No pulmonary edema.", "No effusion.", "There is no evidence of opacity.")


def write_run(root: Path, *, data: Path | None = None, text: TextEncoder | None = None, **model: object) -> Path:
    """``root/run`` over the prepared folder ``root/data``; running statistics are those of a few random inputs."""
    folder = data or write_folder(root / "data")
    encoder = text or LsaTextEncoder.fit([*corpus(Corpus.open(folder)), *SAID], width=8)
    recipe = tiny_recipe()
    config = recipe.model.model_copy(update={"text_width": encoder.width, **model})
    fresh = seeded_model(config, pretrained=False, seed=0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        fresh.encode_image(torch.randn(16, config.channels, config.image_size, config.image_size, generator=generator))
        fresh.encode_text(0.3 * torch.randn(16, encoder.width, generator=generator))
    run = root / "run"
    fresh.save(run / "model")
    save_text_encoder(encoder, run / "text")
    meta = Corpus.open(folder).meta
    settings = recipe.model_dump(mode="json") | {"data": {"path": str(folder), "fingerprint": meta["fingerprint"]}}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    return run


def pretrain(recipe: Path, data: Path, out: Path, *more: str) -> int:
    """The exit code of the command, run in this process."""
    return cli.main(["pretrain", str(recipe), "--data", str(data), "--out", str(out), *more])
