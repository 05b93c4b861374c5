"""One training step: ours, the published schedule, and the floor (the bare backbone on two views), in turn.

The published schedule is written here from REFERENCE.md: four backbone passes (each view once a channel draw), two
BERT-base passes on 128 tokens, full self-attention over 513 tokens, each visual-visual loss computed twice, fp32.
Reading and augmenting images are left out of it; ours includes drawing and warping the views.

    python benchmarks/step.py --batch 16 --rounds 5 --out docs/results/step.json
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imitate.config import ImitateConfig, Recipe, TrainingConfig
from imitate.data.views import warp
from imitate.losses.contrastive import cicl, clinical_prior, soften
from imitate.models.imitate import Imitate, seeded_model
from imitate.training.pretraining import Pretraining, StepDraw, draw_step

TOKENS = 128
Step = Callable[[], Tensor]


class Published(nn.Module):
    """The published step on ready-made views."""

    def __init__(self, model: Imitate) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        self.model = model
        self.text = BertModel(BertConfig()).eval().requires_grad_(False)

    def forward(self, views: list[Tensor], tokens: Tensor, draw: StepDraw) -> Tensor:
        with torch.no_grad():
            texts = [self.text(tokens).last_hidden_state[:, 0] for _ in ("findings", "impression")]
        softened = [soften(clinical_prior(text), "exp", kernel_lambda=0.2) for text in texts]
        everyone = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
        loss = views[0].new_zeros(())
        findings, impressions = [], []
        for view, first, second in zip(views, draw.channels_text, draw.channels_views, strict=True):
            found, concluded = self._encode(view, first)
            projected = [self.model.encode_text(text) for text in texts]
            loss = loss + cicl(found, projected[0], softened[0], 0.07, everyone)
            loss = loss + cicl(concluded, projected[1], softened[1], 0.07, everyone)
            found, concluded = self._encode(view, second)
            findings.append(found)
            impressions.append(concluded)
        for _ in range(2):
            loss = loss + cicl(impressions[0], impressions[1], softened[1], 0.2, everyone)
            loss = loss + cicl(findings[0], findings[1], None, 0.2, everyone)
        return loss

    def _encode(self, view: Tensor, channels: list[Tensor]) -> tuple[Tensor, Tensor]:
        features, aggregation = self.model.image(view), self.model.aggregation
        maps = [level[:, index] for level, index in zip(features.levels, channels, strict=True)]
        tokens = torch.cat([F.adaptive_avg_pool2d(level, aggregation.grid).flatten(2) for level in maps], 1)
        slots = aggregation.positional_embedding.shape[1] - 1
        tokens = F.pad(tokens, (0, 0, 0, slots - tokens.shape[1])) + aggregation.positional_embedding[:, 1:]
        cls = (aggregation.cls_token + aggregation.positional_embedding[:, :1]).expand(len(tokens), -1, -1)
        sequence = torch.cat([tokens, cls], 1)
        out, _ = aggregation.attention(sequence, sequence, sequence)
        return self.model.findings_head((out + sequence)[:, -1]), self.model.embed_impression(features)


def variants(arguments: argparse.Namespace) -> dict[str, Step]:
    device, batch = arguments.device, arguments.batch
    config = ImitateConfig(backbone=arguments.backbone)
    recipe = Recipe(model=config, pretrained=False, training=TrainingConfig(batch_size=batch))
    torch.manual_seed(0)
    images = torch.randint(0, 256, (batch, config.prepared_size, config.prepared_size), dtype=torch.uint8).to(device)
    model = seeded_model(config, pretrained=False, seed=0)
    draw = draw_step(model, recipe, step=0)
    views = [warp(images, view, config) for view in draw.views]
    text = torch.randn(batch, config.text_width, device=device)
    flags = torch.ones(batch, dtype=torch.bool, device=device)
    sample = {"images": images, "findings": text, "impression": text, "has_findings": flags, "has_impression": flags}
    last = [views[0].to(memory_format=torch.channels_last), views[1].to(memory_format=torch.channels_last)]

    def ours(precision: str) -> Step:
        module = Pretraining(seeded_model(config, pretrained=False, seed=0), recipe.objective)
        module = module.to(device).to(memory_format=torch.channels_last)
        return lambda: _backward(
            module, lambda: sum(module(sample, draw_step(model, recipe, step=0)).values()), precision
        )

    def floor(precision: str) -> Step:
        network = seeded_model(config, pretrained=False, seed=0).image.to(device).to(memory_format=torch.channels_last)
        return lambda: _backward(network, lambda: sum(network(view).pooled.float().mean() for view in last), precision)

    def published() -> Step:
        module = Published(seeded_model(config, pretrained=False, seed=0)).to(device)
        tokens = torch.randint(0, 28_000, (batch, TOKENS), device=device)
        return lambda: _backward(module, lambda: module(views, tokens, draw), "fp32")

    known: dict[str, Callable[[], Step]] = {
        "published fp32": published,
        "ours fp32": lambda: ours("fp32"),
        "floor fp32": lambda: floor("fp32"),
        "ours bf16": lambda: ours("bf16"),
        "floor bf16": lambda: floor("bf16"),
    }
    names = [arguments.only] if arguments.only else list(known)
    return {name: known[name]() for name in names}


def _backward(module: nn.Module, loss: Callable[[], Any], precision: str) -> Tensor:
    device = next(module.parameters()).device
    with torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext():
        value = loss()
    value.backward()
    module.zero_grad(set_to_none=True)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return value.detach()


def measure(arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds a step, every variant in turn in every round, after one round that does not count."""
    steps = variants(arguments)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(arguments.rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if round_:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def peak_memory(arguments: argparse.Namespace, name: str) -> float:
    """GB, of a process of its own that runs this variant alone (on a GPU: of its allocator)."""
    command = [sys.executable, __file__, "--only", name, "--rounds", "1", "--batch", str(arguments.batch)]
    command += ["--backbone", arguments.backbone, "--device", arguments.device, "--threads", str(arguments.threads)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(out.strip().splitlines()[-1])


def resident_peak() -> int:
    """Bytes. Linux's own mark, since ru_maxrss of a child process starts from its parent's."""
    status = Path("/proc/self/status")
    if status.is_file():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def ratio(numerator: list[float], denominator: list[float]) -> float:
    """The median over rounds of each round's own ratio."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    seconds = measure(arguments)
    if arguments.only:
        gpu = arguments.device.startswith("cuda")
        print((torch.cuda.max_memory_allocated() if gpu else resident_peak()) / 1e9)
        return
    rows = {
        name: {
            "seconds": statistics.median(times),
            "samples_per_second": arguments.batch / statistics.median(times),
            "speed_over_published": statistics.median(
                p / t for p, t in zip(seconds["published fp32"], times, strict=True)
            ),
            "time_over_floor": statistics.median(
                t / f for t, f in zip(times, seconds[f"floor {name.split()[1]}"], strict=True)
            ),
            "peak_gb": peak_memory(arguments, name),
        }
        for name, times in seconds.items()
    }
    print(f"{'':16}{'s/step':>9}{'samples/s':>11}{'x published':>13}{'x floor time':>14}{'peak GB':>9}")
    for name, row in rows.items():
        print(
            f"{name:16}{row['seconds']:9.2f}{row['samples_per_second']:11.1f}{row['speed_over_published']:13.2f}"
            f"{row['time_over_floor']:14.3f}{row['peak_gb']:9.2f}"
        )
    machine = {
        "device": arguments.device,
        "cpu": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    machine |= {"threads": arguments.threads, "batch": arguments.batch, "backbone": arguments.backbone}
    if arguments.device.startswith("cuda"):
        machine["gpu"] = torch.cuda.get_device_name()
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
