"""Zero-shot AUROC on synthetic archives in three languages, each from its own table to the result by the command line.

The German and the Spanish archive have no English word: reports, columns, labels and splits are of their language, as
are the prompts, which are chosen by it. Images are the same in all of them. Minutes a language on one core.

python benchmarks/languages.py
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from imitate.data.languages import LANGUAGES
from imitate.synthetic.table_layout import table_options
from measuring import Row, finish, options

RECIPE = Path(__file__).parents[1] / "recipes" / "tiny.yaml"


def main() -> None:
    arguments = options(__doc__).parse_args()
    images, epochs = (160, 1) if arguments.quick else (1600, 6)
    rows = []
    for language in ("de", "es", "en"):
        with TemporaryDirectory() as work:
            rows += measured(Path(work), language, images=images, epochs=epochs)
    finish(arguments, "languages", {"archives": rows})


def measured(work: Path, language: str, *, images: int, epochs: int) -> list[Row]:
    run(work, "synthesize", "table", "--language", language, "--out", "raw", "--n", str(images), "--size", "96")
    run(work, "prepare", "table", "--raw", "raw", "--out", "data", "--size", "72", *flags(language))
    length = ["--training.epochs", str(epochs)]
    run(work, "pretrain", str(RECIPE), "--data", "data", "--out", "run", "--threads", "1", *length)
    asked = ["--model", "run", "--data", "data", "--out", "found.json", "--beside", "random", "--like", str(RECIPE)]
    run(work, "evaluate", "zero-shot", *asked)
    return [row(language, name, work / f"{file}.json") for name, file in MODELS.items()]


MODELS = {"pre-trained": "found", "untrained": "found-random"}  # what a table calls them, and their results files


def row(language: str, model: str, file: Path) -> Row:
    found = json.loads(file.read_text(encoding="utf-8"))
    metric = found["metrics"]["auroc"]
    classes = [name for name in found["metrics"] if name.startswith("auroc/")]
    return {
        "language": LANGUAGES[language],
        "model": model,
        "classes": len(classes),
        "macro AUROC": round(100 * metric["value"], 1),
        "95% interval": " to ".join(f"{100 * end:.1f}" for end in (metric["low"], metric["high"]) if end is not None),
    }


def flags(language: str) -> list[str]:
    given = {"labels": (), **table_options(language)}
    words = {name: [value] if isinstance(value, str) else list(value) for name, value in given.items()}
    return [word for name, each in words.items() for word in (f"--{name.replace('_', '-')}", *each)]


def run(work: Path, *words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "imitate", *words], cwd=work, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"imitate {' '.join(words)}: {done.stderr.strip()}")


if __name__ == "__main__":
    main()
