"""Classify every radiograph of a folder of DICOM studies, in a job that may be killed at any time.

    python examples/pacs_batch.py --model runs/first --studies export --out scores

``--studies`` has a folder for each study. Each study becomes one Parquet file below ``--out``, which is complete or
absent: the same command continues after an interruption, and classifies studies and images that were added since. At
the end, ``scores.csv`` has one row for each image, and ``refused.csv`` lists the images that could not be used, with
the reason. File names may be personal data: treat both files like the studies themselves. `imitate predict classify`
with a folder as --out does the same in several processes or on several machines. Research software, not a medical
device.
"""

import argparse
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd

import imitate
from imitate.errors import UserError

PROMPTS = {"Effusion": "pleural effusion", "Edema": "pulmonary edema", "Pneumothorax": "pneumothorax"}


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """The file is there in full or not at all: it is written under another name, synced and renamed."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        write(part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def part_of(study: Path, out: Path) -> Path:
    """Named by the study and its files with their sizes: a study to which images were added is classified again."""
    files = sorted((os.fsencode(path.relative_to(study)), path.lstat().st_size) for path in study.rglob("*"))
    return out / "studies" / f"{hashlib.sha256(repr((os.fsencode(study.name), files)).encode()).hexdigest()}.parquet"


def shown(path: Path | str) -> str:
    r"""A name as text, with bytes that are not UTF-8 as ``\xf6``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def check_settings(out: Path, settings: dict[str, object]) -> None:
    """The first run notes what decides the scores; later ones must agree, or scores of two models would be mixed."""
    path = out / "settings.json"
    if not path.exists():
        write_whole(path, lambda part: part.write_text(json.dumps(settings, indent=1), encoding="utf-8"))
    elif json.loads(path.read_text(encoding="utf-8")) != settings:
        raise UserError(f"{out} was begun with another model or other prompts: choose another --out")


def classify_study(model: imitate.Predictor, study: Path) -> pd.DataFrame:
    """One row an image, sorted by name; a study without a radiograph is one row with that reason."""
    try:
        files = imitate.find_images(study)
    except UserError as error:
        table, names = pd.DataFrame({"reason": [str(error)]}), [""]
    else:
        table = model.classify(files, PROMPTS, errors="skip")
        names = [shown(file.relative_to(study)) for file in files]
    table = table.assign(study=shown(study.name), image=names)
    return table.reindex(columns=["study", "image", *PROMPTS, "reason"]).astype(dict.fromkeys(PROMPTS, "float32"))


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--model", "--studies", "--out"):
        parser.add_argument(name, required=True, type=str if name == "--model" else Path)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args(arguments)

    if not given.studies.is_dir():
        raise UserError(f"{given.studies} is not a folder: give the one that holds the studies")
    studies = sorted(path for path in given.studies.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not studies:
        raise UserError(f"{given.studies} has no folders of studies")
    (given.out / "studies").mkdir(parents=True, exist_ok=True)
    model = imitate.load(given.model, device=given.device)
    calibration = model.calibration.provenance if model.calibration else None
    settings = {"model": model.encoder.identity, "calibration": calibration, "prompts": PROMPTS}
    check_settings(given.out, settings)
    parts = {study: part_of(study, given.out) for study in studies}
    left = [study for study in studies if not parts[study].exists()]
    print(f"{len(studies)} studies, {len(studies) - len(left)} of them done before")
    for study in left:
        table = classify_study(model, study)
        write_whole(parts[study], lambda part, table=table: table.to_parquet(part, index=False))

    every = pd.concat([pd.read_parquet(part) for part in parts.values()], ignore_index=True)
    refused = every[every["reason"].notna()]
    used = every[every["reason"].isna()].drop(columns="reason")
    write_whole(given.out / "scores.csv", lambda part: used.to_csv(part, index=False))
    write_whole(given.out / "refused.csv", lambda part: refused[["study", "image", "reason"]].to_csv(part, index=False))
    print(f"{len(used)} images classified, {len(refused)} refused: {given.out / 'refused.csv'}")
    return every


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
