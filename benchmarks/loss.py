"""The contrastive loss of a large global batch: time and memory of each process, from embeddings, without a backbone.

Before, every process computed the whole N x N loss and built each term's targets; now each computes its own rows of
both directions, and targets once a step. 1, 2 and 4 processes with gloo on the CPU, one thread each, forward and
backward in float32 through ``Pretraining`` itself. Seconds are those of the slowest process, and of processes that
share this machine's cores; memory is the largest peak of a process above its embeddings. Where the processes would not
fit into this machine's memory together, the first runs alone, its collectives filled with its own embeddings: its time
is then without waiting and without contention. What would not fit even so is excluded.

    python benchmarks/loss.py
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.testing._internal.distributed.fake_pg import FakeStore

from imitate.config import ImitateConfig, ImitateOptions
from imitate.data.augment import ViewDraw
from imitate.distributed import gather
from imitate.losses.contrastive import cicl, clinical_prior, soften
from imitate.training.draws import StepDraw
from imitate.training.pretraining import Pretraining
from measuring import Row, finish, from_now, options, resident

WIDTH, TEXTS = 512, 768  # of the joint space, of the text encoder
EMBEDDINGS = 8  # two of text; of each view one of the impression and two of the findings
MATRICES = 21  # of own x N, alive at the peak: see docs/scaling.md
BEFORE = 30  # of N x N
BYTES = 56 * 1024  # a pair of the global batch: gathered embeddings, their gradients, texts
CARD, REST = 80 * 2**30, 8 * 2**30  # a card's memory, and that of the network, its optimizer and a chunk's activations


class Given(nn.Module):
    """In a model's place: embeddings that are given."""

    def __init__(self, embeddings: list[Tensor]) -> None:
        super().__init__()
        self.dtype_of = nn.Parameter(torch.zeros(()))
        self.config = ImitateConfig()
        self.texts, self.views = embeddings[:2], [embeddings[2:5], embeddings[5:]]
        self.project_findings = self.impression_head = nn.Identity()

    def begin(self) -> None:
        self.waiting = list(self.texts)

    def encode_text(self, text: Tensor, present: Tensor, section: str) -> Tensor:
        return self.waiting.pop(0)


class FromEmbeddings(Pretraining):
    def __init__(self, given: Given) -> None:
        super().__init__(given, ImitateOptions())  # type: ignore[arg-type]  # it has what the step asks of a model
        self.given = given

    def _look(
        self, images: Tensor, view: ViewDraw, draws: Sequence[list[Tensor]], side: int | None
    ) -> Sequence[Tensor]:
        return self.given.views[int(view.autocontrast)]


def now(model: Given, batch: dict[str, Tensor]) -> Tensor:
    model.begin()
    views = [ViewDraw(torch.zeros(()), torch.tensor(number)) for number in range(2)]
    return torch.stack([*FromEmbeddings(model)(batch, StepDraw(views, [[], []], [[], []])).values()]).sum()


def before(model: Given, batch: dict[str, Tensor]) -> Tensor:
    """Every process has the whole matrices; each term builds its own targets."""
    findings, impression = (gather(each) for each in model.texts)
    (imp_1, find_1, pair_1), (imp_2, find_2, pair_2) = ([gather(each) for each in view] for view in model.views)
    priors = [
        soften(clinical_prior(gather(batch[name])), "exp", kernel_lambda=0.2) for name in ("findings", "impression")
    ]
    present = gather(batch["has_findings"])
    terms = [cicl(view, findings, priors[0], 0.07, present) for view in (find_1, find_2)]
    terms += [cicl(view, impression, priors[1], 0.07, present) for view in (imp_1, imp_2)]
    terms += [2 * cicl(pair_1, pair_2, None, 0.2, present), 2 * cicl(imp_1, imp_2, priors[1], 0.2, present)]
    return torch.stack(terms).sum()


def measure(loss: Callable[[Given, dict[str, Tensor]], Tensor], pairs: int, rank: int, world: int) -> Row:
    generator = torch.Generator().manual_seed(pairs)
    whole = torch.randn(EMBEDDINGS, pairs, WIDTH, generator=generator)
    texts = torch.randn(2, pairs, TEXTS, generator=generator) + 0.5
    own = slice(rank * pairs // world, (rank + 1) * pairs // world)
    embeddings = [each.clone().requires_grad_() for each in whole[:, own]]
    flags = torch.ones(pairs // world, dtype=torch.bool)
    batch = {"images": torch.zeros(pairs // world, 1), "findings": texts[0, own].clone()}
    batch |= {"impression": texts[1, own].clone(), "has_findings": flags, "has_impression": flags}
    del whole, texts
    if world > 1:
        dist.barrier()
    start, at = from_now(), time.perf_counter()
    value = loss(Given(embeddings), batch)
    value.backward()
    row: Row = {"s": time.perf_counter() - at, "GB": resident() - start, "loss": float(value.detach())}
    gradient = torch.stack([each.grad for each in embeddings if each.grad is not None]) / world  # as a mean over ranks
    return row | {"gradient": gradient.double().norm(dim=2).mean(1).tolist()}


def work(rank: int, world: int, sizes: list[int], folder: str) -> None:
    """One process: ``folder/rank.json`` holds its rows."""
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    rows = {}
    for pairs in sizes:
        for name, loss in (("before", before), ("now", now)):
            if fits(name, pairs, world):
                rows[f"{pairs} {name}"] = measure(loss, pairs, rank, world)
    (Path(folder) / f"{rank}.json").write_text(json.dumps(rows))
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()


def alone(_: int, world: int, pairs: int, folder: str) -> None:
    """The first of ``world`` processes, without the others."""
    torch.set_num_threads(1)
    dist.init_process_group("fake", rank=0, world_size=world, store=FakeStore())
    (Path(folder) / "0.json").write_text(json.dumps(measure(now, pairs, 0, world)))
    dist.destroy_process_group()


def fits(name: str, pairs: int, world: int, *, together: bool = True) -> bool:
    """Whether the processes together, or one of them, stay below three quarters of this machine's memory."""
    whole = 4 * pairs**2 * (BEFORE * world if name == "before" else MATRICES)
    return whole / (1 if together else world) < 0.75 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def table(sizes: list[int], worlds: list[int]) -> list[Row]:
    rows: list[Row] = []
    for world in worlds:
        with TemporaryDirectory() as folder:
            mp.start_processes(work, (world, sizes, folder), nprocs=world, start_method="spawn")
            found = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(world)]
        for pairs in sizes:
            row: Row = {"pairs": pairs, "processes": world}
            for name in ("before", "now"):
                each = [ranks[f"{pairs} {name}"] for ranks in found if f"{pairs} {name}" in ranks]
                row[f"s, {name}"] = max(r["s"] for r in each) if each else "-"
                row[f"GB, {name}"] = max(r["GB"] for r in each) if each else "-"
            both = [(r[f"{pairs} before"], r[f"{pairs} now"]) for r in found if f"{pairs} before" in r]
            apart = [abs(a["loss"] / b["loss"] - 1) for a, b in both]
            apart += [abs(u / v - 1) for a, b in both for u, v in zip(a["gradient"], b["gradient"], strict=True)]
            if not fits("now", pairs, world) and fits("now", pairs, world, together=False):
                row |= _alone(pairs, world)
            rows.append(row | {"largest difference": max(apart) if apart else "-"})
    return sorted(rows, key=lambda row: (row["pairs"], str(row["processes"])))


def _alone(pairs: int, world: int) -> Row:
    with TemporaryDirectory() as folder:
        mp.start_processes(alone, (world, pairs, folder), nprocs=1, start_method="spawn")
        found = json.loads((Path(folder) / "0.json").read_text())
    return {"processes": f"{world}, one alone", "s, now": found["s"], "GB, now": found["GB"]}


def largest(cards: int) -> Row:
    """The largest global batch N on cards of 80 GiB: 4 MATRICES N^2 / W + BYTES N = CARD - REST."""
    free = CARD - REST
    square = 4 * MATRICES / cards
    pairs = int((-BYTES + (BYTES**2 + 4 * square * free) ** 0.5) / (2 * square))
    row: Row = {"cards": cards, "global batch": pairs, "pairs a card": pairs // cards}
    row |= {"GiB of matrices": square * pairs**2 / 2**30, "GiB of embeddings": BYTES * pairs / 2**30}
    return row | {"global batch before": int((free / (4 * BEFORE)) ** 0.5)}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--pairs", type=int, nargs="+", help="these sizes alone; the others stay as they are in --out")
    arguments = parser.parse_args()
    sizes, worlds = ([64, 128], [1, 2]) if arguments.quick else ([1024, 2048, 4096, 8192, 16384], [1, 2, 4])
    kept: list[Row] = []
    if arguments.pairs:
        before = json.loads((arguments.out / "loss.json").read_text(encoding="utf-8"))["tables"]["loss"]
        sizes, kept = arguments.pairs, [row for row in before if row["pairs"] not in arguments.pairs]
    rows = sorted([*kept, *table(sizes, worlds)], key=lambda row: row["pairs"])
    finish(arguments, "loss", {"loss": rows, "largest": [largest(cards) for cards in (8, 64, 512)]})


if __name__ == "__main__":
    main()
