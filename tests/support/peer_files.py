"""Published checkpoints imitated: their full lists of names and shapes, and small ones with random weights."""

import gzip
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from imitate.models.peers.files import Checkpoint

KEYS = Path(__file__).parents[1] / "models" / "peers" / "keys"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "no", "evidence", "of", "pleural", "effusion", "left", "large", "##s", "is",
         "there", "pneumonia", "heart", "the", "normal", "a", "."]  # fmt: skip
TEXTS = [
    "No evidence of pleural effusion.",
    "There is a large left pleural effusion",
    "The heart is normal. No pneumonia.",
]


def published(name: str) -> dict[str, torch.Tensor]:
    """The tensors of a published file, without memory.

    A line of its list is a pattern, the shape, the type and, for each ``#``, the numbers that stand in its place.
    """
    found = {}
    for line in (KEYS / f"{name}.txt").read_text().splitlines():
        pattern, shape, kind, *terms = line.split()
        sides = [] if shape == "-" else [int(side) for side in shape.split(",")]
        for term in terms or [""]:
            for numbers in product(*map(_numbers, term.split("."))) if term else [()]:
                key = pattern.replace("#", "{}").format(*numbers)
                found[key] = torch.empty(sides, dtype=getattr(torch, kind), device="meta")
    return found


PARTS = {"mgca": "state_dict", "gloria": "state_dict", "carzero": "state_dict", "cxrclip": "model", "medklip": "model",
         "mrm": "model", "ark": "teacher", "ark6": "teacher", "chexfound": "teacher"}  # fmt: skip
"""By the first word of a list's name, the dictionary of the file that holds the tensors; by default the file itself."""


def published_checkpoint(name: str) -> Checkpoint:
    """As ``read_checkpoint`` would return it."""
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in published(name).items():
        inner, _, rest = key.rpartition("/")
        parts.setdefault(inner or PARTS.get(name.split("-")[0], ""), {})[rest.removeprefix("module.")] = tensor
    return Checkpoint(Path(name), parts)


def _numbers(text: str) -> list[int]:
    spans = [part.partition("-") for part in text.split(",")]
    return [number for low, _, high in spans for number in range(int(low), int(high or low) + 1)]


def randomised(module: Any, seed: int = 0) -> Any:
    """In eval mode, with weights that matter: BatchNorm statistics, zero-initialised gains and scales too."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            fan = tensor[0].numel() if tensor.ndim > 1 else 25
            drawn = torch.randn(tensor.shape, generator=generator) / max(fan, 1) ** 0.5
            norm = tensor.ndim == 1 and name.endswith("weight")
            tensor.copy_(drawn.abs() + 0.5 if "running_var" in name else 1 + 0.2 * drawn if norm else drawn)
    return module.eval()


def write_vocabulary(folder: Path) -> None:
    (folder / "vocab.txt").write_text("\n".join(WORDS))


def write_clip_merges(folder: Path) -> None:
    """OpenAI's table, which open_clip brings."""
    import open_clip

    source = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    (folder / source.name).write_bytes(gzip.compress(gzip.decompress(source.read_bytes())))


def images(count: int, channels: int, side: int) -> torch.Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(1))


def radiograph(width: int, height: int) -> np.ndarray:
    """Gray values of a picture with edges, darkest 0 and lightest 255."""
    rng = np.random.default_rng(width)
    smooth = rng.normal(size=(height // 8 + 1, width // 8 + 1)).repeat(8, 0).repeat(8, 1)[:height, :width]
    noisy = smooth + 0.1 * rng.normal(size=(height, width))
    return ((noisy - noisy.min()) / np.ptp(noisy) * 255).round().astype(np.uint8)


def tiny_bert(*, layers: int = 2, pooler: bool = True, positions: int = 512) -> Any:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=128, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=96,
        max_position_embeddings=positions,
    )  # fmt: skip
    return randomised(BertModel(config, add_pooling_layer=pooler), 1)


def tiny_resnet(channels: int = 3, seed: int = 2) -> Any:
    """torchvision's, of one block a stage; its widths are fixed."""
    from torchvision.models.resnet import Bottleneck, ResNet

    network = ResNet(Bottleneck, [1, 1, 1, 1])
    network.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    return randomised(network, seed)


def maps(network: Any, pictures: torch.Tensor, last: int = 4) -> torch.Tensor:
    """The last map of a torchvision ResNet."""
    found = network.maxpool(network.relu(network.bn1(network.conv1(pictures))))
    for stage in range(1, last + 1):
        found = getattr(network, f"layer{stage}")(found)
    return found


def tiny_vit(seed: int = 3, **options: Any) -> Any:
    import timm

    made: dict[str, Any] = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 128,
        "depth": 4,
        "num_heads": 2,
        "num_classes": 0,
        **options,
    }
    return randomised(timm.create_model("vit_base_patch16_224", **made), seed)


def tokens(texts: list[str], folder: Path, longest: int = 512) -> dict[str, torch.Tensor]:
    """By transformers' own tokenizer."""
    from transformers import BertTokenizerFast  # type: ignore[attr-defined]

    tokenizer = BertTokenizerFast.from_pretrained(folder)
    found = tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
    return {name: found[name] for name in ("input_ids", "attention_mask")}


def under(prefix: str, module: nn.Module) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in module.state_dict().items()}


def close(a: torch.Tensor, b: torch.Tensor, within: float = 1e-5) -> bool:
    """Equal, relative to the largest number."""
    assert a.shape == b.shape, (a.shape, b.shape)
    return bool((a - b).abs().max() <= within * max(1.0, float(b.abs().max())))
