"""A step's samples without a data set."""

from collections.abc import Collection

import torch
from torch import Tensor


def batch(size: int = 8, *, findings: Collection[int] = (), impression: Collection[int] = ()) -> dict[str, Tensor]:
    """Random images and texts of 12 values; ``findings`` and ``impression``: which samples lack the section."""
    torch.manual_seed(1)
    flags = [torch.tensor([i not in missing for i in range(size)]) for missing in (findings, impression)]
    texts = [torch.randn(size, 12) * flag.unsqueeze(1) for flag in flags]
    images = torch.randint(0, 256, (size, 36, 36), dtype=torch.uint8)
    given = dict(findings=texts[0], impression=texts[1], report=texts[0] + texts[1], sentences=texts[1] - texts[0])
    has = dict(findings=flags[0], impression=flags[1], report=flags[0] | flags[1], sentences=flags[0] | flags[1])
    return dict(images=images, **given, **{f"has_{name}": flag for name, flag in has.items()})
