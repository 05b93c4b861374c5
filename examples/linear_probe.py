"""A classifier on top of a pre-trained encoder, in a plain PyTorch loop with a DataLoader.

    python examples/linear_probe.py --model runs/first --table labels.csv --images images --out probe.pt

The table has the columns ``image`` (a path below the folder of images) and ``patient``, and one column of 1, 0 or blank
for each class. One patient in five is held out. ``--finetune`` also trains the encoder. `imitate evaluate` does both
(linear-classification, finetune-classification) with intervals and paired tests: use it for results, and this file for
anything that it cannot do. Research software, not a medical device.
"""

import argparse
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import imitate
from imitate.errors import UserError

KEYS = ["image", "patient"]


def labels_of(table: pd.DataFrame) -> np.ndarray:
    """NaN where unknown. SystemExit: a column such as an age is no class, and -1 (uncertain) no label."""
    classes = table.drop(columns=KEYS)
    if odd := [name for name, values in classes.items() if not values.isin([0, 1, np.nan]).all()]:
        raise SystemExit(f"error: {', '.join(map(str, odd))} must be 1, 0 or blank: change or remove these columns")
    return classes.to_numpy(np.float32, copy=True)


def is_usable(path: Path, preprocess: Callable[[Path], Tensor]) -> bool:
    """Asked of every image before training, which one that cannot be read would end; the reason is printed."""
    try:
        preprocess(path)
    except UserError as error:
        print(f"excluded: {error}")
        return False
    return True


class Radiographs(Dataset[tuple[Tensor, Tensor]]):
    """Images as the network reads them and their labels, NaN where unknown."""

    def __init__(self, table: pd.DataFrame, folder: Path, preprocess: Callable[[Path], Tensor]) -> None:
        self.paths = [folder / name for name in table["image"]]
        self.labels = labels_of(table)
        self.preprocess = preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.preprocess(self.paths[index]), torch.from_numpy(self.labels[index])


class Classifier(nn.Module):
    def __init__(self, encoder: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Sequential(nn.BatchNorm1d(width, affine=False), nn.Linear(width, classes))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(images).pooled)
        return logits


def held_out(patients: pd.Series) -> np.ndarray:
    """One patient in five, the same on every machine: images of one patient never lie on both sides."""
    return np.array([zlib.crc32(str(patient).encode()) % 5 == 0 for patient in patients])


def epoch(model: Classifier, loader: DataLoader, device: str, optimizer: torch.optim.Optimizer | None) -> float:
    """The mean loss over known labels; with an optimizer, a step for each batch."""
    total = count = 0.0
    for images, labels in loader:
        logits, labels = model(images.to(device)), labels.to(device)
        known = ~labels.isnan()
        if not known.any():
            continue
        loss = F.binary_cross_entropy_with_logits(logits[known], labels[known])
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        total, count = total + float(loss.detach()) * int(known.sum()), count + int(known.sum())
    return total / max(count, 1)


@torch.inference_mode()
def predict(model: Classifier, loader: DataLoader, device: str) -> np.ndarray:
    return torch.cat([model.eval()(images.to(device)).sigmoid().cpu() for images, _ in loader]).numpy()


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--model", "--table", "--images", "--out"):
        parser.add_argument(name, required=True)
    parser.add_argument("--finetune", action="store_true", help="train the encoder, too")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)

    table = pd.read_csv(given.table, dtype={"image": str, "patient": str})
    classes = [name for name in table.columns if name not in KEYS]
    if table["patient"].isna().any():
        raise SystemExit("error: images without a patient could be on both sides: fill in the column patient")
    preprocess = imitate.load(given.model, device="cpu").preprocess
    table = table[[is_usable(Path(given.images) / name, preprocess) for name in table["image"]]]
    if table.empty:
        raise SystemExit(f"error: no image of {given.table} can be read below {given.images}")
    test = held_out(table["patient"])
    sets = [Radiographs(table[rows], Path(given.images), preprocess) for rows in (~test, test)]
    train = DataLoader(sets[0], batch_size=32, shuffle=True, drop_last=len(sets[0]) > 32, num_workers=given.workers)
    check = DataLoader(sets[1], batch_size=32, num_workers=given.workers)

    encoder = imitate.Imitate.from_pretrained(given.model).image
    model = Classifier(encoder, encoder.width, len(classes)).to(device)
    encoder.requires_grad_(given.finetune)
    groups = [{"params": model.head.parameters(), "lr": 3e-3}, {"params": encoder.parameters(), "lr": 3e-5}]
    optimizer = torch.optim.AdamW(groups[: 1 + given.finetune], weight_decay=0.05)
    for number in range(given.epochs):
        model.train()
        encoder.train(given.finetune)  # a frozen encoder keeps its statistics
        print(f"epoch {number + 1}: loss {epoch(model, train, device, optimizer):.4f}")

    found, truth, result = predict(model, check, device), sets[1].labels, {}
    for column, name in enumerate(classes):
        known = ~np.isnan(truth[:, column])
        if len(set(truth[known, column])) == 2:
            result[name] = float(roc_auc_score(truth[known, column], found[known, column]))
    print(f"AUROC of {len(truth)} held-out images:", {name: round(value, 3) for name, value in result.items()})
    kept = {"classes": classes, "state": model.state_dict(), "preprocessing": preprocess.preprocessing.model_dump()}
    torch.save(kept, given.out)
    return result


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
