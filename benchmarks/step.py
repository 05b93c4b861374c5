"""One training step: ours, the published schedule, and the floor (the bare backbone on two views), in turn.

The published schedule is written here from REFERENCE.md: four backbone passes (each view once a channel draw), two
BERT-base passes on 128 tokens, full self-attention over 513 tokens, each visual-visual loss computed twice, fp32.
It excludes reading and augmenting images; ours includes drawing and warping the views. The published schedule
is timed in bf16 as well: that row distinguishes what is omitted and what is rounded.

    python benchmarks/step.py
"""

import json
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imitate.config import ImitateConfig, ImitateOptions, Recipe, TrainingConfig
from imitate.data.augment import warp
from imitate.losses.contrastive import cicl, clinical_prior, soften
from imitate.models.imitate import Imitate, seeded_model
from imitate.training.draws import StepDraw, draw_step, move
from imitate.training.pretraining import Pretraining
from measuring import Row, alone, alternate, bfloat16_unit, finish, options, ratio, resident

TOKENS = 128
NAMES = [f"{what} {precision}" for precision in ("fp32", "bf16") for what in ("published", "ours", "floor")]
TARGETS = {"ours fp32": (3.0, 1.08), "ours bf16": (6.0, 1.08)}  # speed over published fp32, time over the floor


class Published(nn.Module):
    """The published step on ready-made views."""

    def __init__(self, model: Imitate, *, bert_layers: int) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        self.model = model
        self.text = BertModel(BertConfig(num_hidden_layers=bert_layers)).eval().requires_grad_(False)

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
        return self.model.findings_head((out + sequence)[:, -1]), self.model.impression_head(features.pooled)


class Bench:
    """One batch, and each kind of step on it."""

    bert_layers = 12

    def __init__(self, *, device: str, batch: int, config: ImitateConfig, chunk: int | None = None) -> None:
        self.device, self.batch, self.config, self.chunk = torch.device(device), batch, config, chunk
        self.recipe = Recipe(model=config, pretrained=False, training=TrainingConfig(batch_size=batch))
        torch.manual_seed(0)
        size = config.prepared_size
        images = torch.randint(0, 256, (batch, size, size), dtype=torch.uint8).to(device)
        text = torch.randn(batch, config.text_width, device=device)
        flags = torch.ones(batch, dtype=torch.bool, device=device)
        self.sample = {"images": images, "findings": text, "impression": text}
        self.sample |= {"has_findings": flags, "has_impression": flags}

    def model(self) -> Imitate:
        return seeded_model(self.config, pretrained=False, seed=0).to(self.device)

    def step(self, name: str) -> Callable[[], Tensor]:
        """Forward and backward of one batch, e.g. of ``ours bf16``."""
        what, precision = name.split()
        made: nn.Module
        made, loss = {"ours": self._ours, "floor": self._floor, "published": self._published}[what]()

        def run() -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16) if precision == "bf16" else nullcontext():
                value = loss()
            value.backward()
            made.zero_grad(set_to_none=True)
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            return value.detach()

        return run

    def _ours(self) -> tuple[nn.Module, Callable[[], Any]]:
        model = self.model()
        module = Pretraining(model, ImitateOptions(**self.recipe.objective.model_dump()), chunk=self.chunk).to(
            memory_format=torch.channels_last
        )

        def drawn() -> StepDraw:
            with torch.autocast(self.device.type, enabled=False):  # as in the loop, which draws outside of it
                return move(draw_step(model, self.recipe, step=0), self.device)

        return module, lambda: sum(module(self.sample, drawn()).values())

    def _floor(self) -> tuple[nn.Module, Callable[[], Any]]:
        network = self.model().image.to(memory_format=torch.channels_last)
        views = [view.to(memory_format=torch.channels_last) for view in self._views()]
        return network, lambda: sum(network(view).pooled.float().mean() for view in views)

    def _published(self) -> tuple[nn.Module, Callable[[], Any]]:
        module, views = Published(self.model(), bert_layers=self.bert_layers).to(self.device), self._views()
        tokens = torch.randint(0, 28_000, (self.batch, TOKENS), device=self.device)
        draw = move(draw_step(module.model, self.recipe, step=0), self.device)
        return module, lambda: module(views, tokens, draw)

    def _views(self) -> list[Tensor]:
        draw = move(draw_step(self.model(), self.recipe, step=0), self.device)
        return [warp(self.sample["images"], view, self.config) for view in draw.views]


def compare(bench: Bench, names: list[str], *, rounds: int) -> list[Row]:
    """A row a step: time, and the ratios to the published step in fp32 and to the floor of the same precision."""
    seconds = alternate({name: bench.step(name) for name in names}, rounds=rounds)
    rows = []
    for name, each in seconds.items():
        median = sorted(each)[len(each) // 2]
        row = {"step": name, "s a step": median, "samples/s": bench.batch / median}
        row["speed over published fp32"] = ratio(seconds["published fp32"], each)
        row["time over floor"] = ratio(each, seconds[f"floor {name.split()[1]}"])
        rows.append(row)
    return rows


def with_memory(rows: list[Row], quick: list[str]) -> list[Row]:
    """Each step alone in a process; the share of the published peak counts what the step adds to the imports."""
    found = {row["step"]: alone(__file__, row["step"], *quick) for row in rows}
    published = found["published fp32"]["step"]
    return [
        row | {"peak GB": found[row["step"]]["peak"], "memory of published": found[row["step"]]["step"] / published}
        for row in rows
    ]


def verdicts(rows: list[Row]) -> list[Row]:
    """Target and measurement side by side."""
    made = []
    for row in rows:
        if row["step"] in TARGETS:
            speed, floor = TARGETS[row["step"]]
            made.append({"step": row["step"], "metric": "speed over published fp32", "target": f">= {speed}"})
            made[-1]["measured"] = row["speed over published fp32"]
            made.append({"step": row["step"], "metric": "time over floor", "target": f"<= {floor}"})
            made[-1]["measured"] = row["time over floor"]
            made.append({"step": row["step"], "metric": "memory of published", "target": "<= 0.5"})
            made[-1]["measured"] = row["memory of published"]
    return made


def peak(bench: Callable[[], Bench], name: str) -> Row:
    """GB of this process that runs nothing else: at its peak, and thereof what was not there after the imports."""
    before = resident(peak=False)
    step = bench().step(name)
    for _ in range(2):
        step()
    return {"peak": resident(), "step": resident() - before}


def main() -> None:
    arguments = options(__doc__).parse_args()
    small = {"backbone": "resnet18", "prepared_size": 72, "image_size": 64}
    config = ImitateConfig(**(small if arguments.quick else {}))

    def bench() -> Bench:
        made = Bench(device="cpu", batch=4 if arguments.quick else 16, config=config)
        made.bert_layers = 1 if arguments.quick else made.bert_layers
        return made

    if arguments.only:
        print(json.dumps(peak(bench, arguments.only)))
        return
    names = [name for name in NAMES if name.endswith("fp32") or bfloat16_unit() != "none"]
    rows = compare(bench(), names, rounds=2 if arguments.quick else 8)
    rows = with_memory(rows, ["--quick"] if arguments.quick else [])
    finish(arguments, "step", {"steps": rows, "targets": verdicts(rows)})


if __name__ == "__main__":
    main()
