"""Write every table and plot of the studies, from their folders in docs/results: `make results`.

    python experiments/results.py            (writes tables.md and a forest plot of each family into each folder,
                                              and the marked blocks of README.md and docs/*.md)
    python experiments/results.py --check    (writes nothing; fails where one of them is out of date)

``<!-- results: NAME -->`` and ``<!-- end -->`` enclose what is written into a page; BLOCKS says what each name is.
"""

import argparse
import logging
import re
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import changes
import dense
import effects
import longer
import pointing
import selection
import tables
from imitate.errors import UserError
from imitate.report.markdown import markdown_table
from imitate.tasks.results import file_digest
from layout import Folder, read_folder
from lines import CONFIRMED, MAIN, MIXTURE, README, SMALL, SUPERVISED, SYNTHETIC, auroc, recalls
from study import ROOT
from tables import Line

log = logging.getLogger("study")
RESULTS = ROOT / "docs/results"
PAGES = (
    "README.md",
    "docs/results.md",
    "docs/hierarchy.md",
    "docs/heatmaps.md",
    "docs/mixtures.md",
    "docs/experiments.md",
)
PATTERN = re.compile(r"(<!-- results: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
PAIRED = ("untrained", "IMITATE", "CLIP", "ConVIRT", "M-FLAG")
ABLATED = ("IMITATE", "without multi-level branch")
README_METHODS = ("untrained", "IMITATE", "CLIP", "ConVIRT")
HOSPITALS = ("both, equal steps", "both, equal epochs", "north alone", "south alone")
OLDER: set[str] = set()
"""The studies that another version of the code measured than today's, which the block ``older`` says on the page."""
SELECT = [
    selection.Column("retrieval, mean recall", "retrieval"),
    selection.Column("zero-shot, AUROC", "zero-shot"),
    selection.Column("linear probe at 10%, AUROC", "probe", 0.1),
]
FOLDS = [*SELECT[:2], selection.Column("linear probe, AUROC", "probe")]
TEMPERATURES = {"CLIP": ("CLIP", "0.1")}  # objective: its method in the factorial, and the temperature of that
OTHERS = {
    "pooled": ("pooled all levels sections", "0.1"),
    "ConVIRT": ("ConVIRT", "0.1"),
    "SLIP": ("SLIP", "0.1"),
    "IMITATE": ("IMITATE", "0.07"),
}


def readme(study: Folder) -> str:
    synthetic = [
        Line("synthetic pairs: retrieval, mean recall", "retrieval"),
        Line("synthetic pairs: linear probe, AUROC", "probe"),
    ]
    lines = tables.values(study, README_METHODS, README)
    lines += tables.values(study_of("synthetic"), README_METHODS, synthetic)
    return markdown_table(["", *README_METHODS], lines)


CLAIM = {  # of the confirmation at equal CPU time
    "selected": "selected in CLIP's time",
    "CLIP": "CLIP",
    "ConVIRT": "ConVIRT",
    "SLIP-like CLIP": "SLIP in CLIP's time",
    "IMITATE": "IMITATE in CLIP's time",
}


def claim(study: Folder) -> str:
    names = tuple(CLAIM.values())
    lines = [
        Line("Open-i: retrieval, mean recall", "retrieval"),
        Line("Open-i: zero-shot, AUROC", "zero-shot"),
        Line("ChestX-ray14: zero-shot, AUROC", "zero-shot-chestxray14"),
    ]
    synthetic = [line._replace(text=line.text.replace("Open-i", "synthetic pairs")) for line in lines[:2]]
    written = tables.values(study, names, lines) + tables.values(study_of("confirm_synthetic"), names, synthetic)
    return markdown_table(["", *CLAIM], written)


def older(_: Folder) -> str:
    """A line a study that is not of today's code."""
    lines = []
    for name in folders():
        study = study_of(name)
        if tables.older(study):
            commit = study.about["made_by"]["commit"][:7]
            lines.append(f"- `{name}` was measured at commit {commit}; today's code gives other values.")
    return "\n".join(lines)


def durations(_: Folder) -> str:
    """Of pre-training, as the clock ran; runs that were interrupted count from their last start."""
    lines = []
    for name in folders():
        took = [run["seconds"] for runs in study_of(name).about["compute"].values() for run in runs]
        lines.append([f"`{name}`", str(len(took)), f"{sum(took) / 3600:.1f}", f"{max(took) / 60:.0f}"])
    return markdown_table(["results", "runs", "hours of all runs", "longest run, minutes"], lines)


def effects_of(study: Folder) -> str:
    found = effects.table(study, SELECT)
    done = sum(all(each.of(name) in study.results for each in SELECT) for name in map(" ".join, effects.cells()))
    return found or f"{done} of the {len(effects.cells())} cells are measured; effects need all of them."


def baselines(study: Folder) -> str:
    """The methods that are no cells of the factorial."""
    cells = set(map(" ".join, effects.cells()))
    values = {cell: each for cell, each in selection.of_seeds(study).items() if cell[0] not in cells}
    return selection.table(values, SELECT)


def confirmed(study: Folder, family: str) -> str:
    """What is compared in the family and measured: compute, and all tasks, tested or not."""
    methods = [each for each in study.about["comparisons"][family] if each in study.about["compute"]]
    columns = dict.fromkeys(cell[1:] for cell in study.cells)
    lines = [
        Line(text if fraction == 1 else text.replace(",", f" at {100 * fraction:g}%,", 1), task, fraction=fraction)
        for task, text in CONFIRMED.items()
        for name, fraction in columns
        if name == task
    ]
    spent = [tables.spent(study, method) for method in methods]
    compute = [
        ["steps", *(f"{each.steps:,}" for each in spent)],
        ["CPU seconds per run", *(f"{each.cpu_seconds:.0f}" for each in spent)],
    ]
    return tables.metrics(study, methods, lines, chance=True, first=compute)


def one_seed(study: Folder) -> str:
    """Temperatures of all but CLIP; at its usual one, the first seed of a study that has it in the same arithmetic."""
    usual = selection.of_seeds(study_of("factorial"))
    published = selection.of_seeds(study_of("own_hospital"))
    usual |= {cell: each for cell, each in published.items() if cell[0] == "IMITATE"}
    first = {cell: each[:1] for cell, each in usual.items() if cell[0] in {name for name, _ in OTHERS.values()}}
    others = selection.of_seeds(study_of("temperatures_others"))
    return selection.temperatures({**first, **selection.of_seeds(study), **others}, OTHERS, SELECT[:2])


BLOCKS: dict[str, tuple[str, Callable[[Folder], str]]] = {  # name: the folder of the study, and its table
    "readme": ("open_i", readme),
    "claim": ("confirm_open_i", claim),
    "older": ("open_i", older),
    "durations": ("open_i", durations),
    "open_i/retrieval": ("open_i", lambda study: tables.metrics(study, PAIRED, recalls(), chance=True)),
    "open_i/zero-shot": ("open_i", lambda study: tables.metrics(study, PAIRED, auroc(study, "zero-shot"), chance=True)),
    "open_i/ablations": ("open_i", lambda study: tables.metrics(study, ABLATED, MAIN)),
    "open_i/supervised": ("open_i", lambda study: tables.metrics(study, ["supervised"], SUPERVISED)),
    "open_i/changes": ("open_i", lambda study: changes.table(study, "open_i")),
    "synthetic/changes": ("synthetic", lambda study: changes.table(study, "synthetic")),
    "synthetic/tasks": ("synthetic", lambda study: tables.metrics(study, PAIRED[:-1], SYNTHETIC)),
    "synthetic/tests": ("synthetic", lambda study: tables.tests(study, "baselines")),
    "factorial/cells": ("factorial", lambda study: effects.cell_means(study, SELECT)),
    "factorial/effects": ("factorial", effects_of),
    "factorial/baselines": ("factorial", baselines),
    "factorial/temperatures": (
        "factorial",
        lambda study: selection.temperatures(selection.of_seeds(study), TEMPERATURES, SELECT[:2]),
    ),
    "temperatures": ("temperatures", one_seed),
    **{
        f"{name}/{family.replace(' ', '-')}{what}": (name, partial(table, family=family))
        for name in ("confirm_open_i", "confirm_synthetic")
        for family in ("equal steps", "equal seconds")
        for what, table in (("", confirmed), ("-tests", tables.tests))
    },
    "own_hospital": ("own_hospital", lambda study: selection.table(selection.of_seeds(study), SELECT[:2])),
    "longer": ("longer", lambda study: selection.table(selection.of_seeds(study), SELECT)),
    "longer/validation": ("longer", longer.validations),
    "longer/effects": ("longer", lambda study: longer.table(study, SELECT)),
    "dense/tasks": ("dense", dense.of_fractions),
    "dense/tests": ("dense", lambda study: tables.tests(study, "dense")),
    "heatmaps": ("heatmaps", pointing.of_synthetic),
    "heatmaps/sentences": ("heatmaps_sentences", pointing.of_sentences),
    "heatmaps/sentences-attention": ("heatmaps_sentences", pointing.of_sentences_by_attention),
    "heatmaps/open_i": ("heatmaps_open_i", pointing.of_open_i),
    "heatmaps/branches": ("heatmaps_open_i", pointing.of_branches),
    "heatmaps/earlier": ("heatmaps_open_i", lambda _: pointing.earlier()),
    "heatmaps/half-width": ("heatmaps_open_i", lambda _: pointing.of_half_width()),
    "hospitals/tasks": ("hospitals", lambda study: tables.metrics(study, HOSPITALS, MIXTURE)),
    "hospitals/tests": ("hospitals", lambda study: tables.tests(study, "mixture")),
    "folds": ("folds/fold-0", lambda _: selection.table(selection.of_folds(RESULTS / "folds"), FOLDS)),
    "folds/two": ("folds/fold-0", lambda _: selection.table(selection.of_folds(RESULTS / "folds", first=2), FOLDS)),
    "small/tasks": ("small", lambda study: tables.metrics(study, ["untrained", "IMITATE", "CLIP"], SMALL)),
    "small/tests": ("small", lambda study: tables.tests(study, "baselines")),
}


@cache
def study_of(name: str) -> Folder:
    """UserError where its results are of other code than today's, or its paired tests of other results."""
    found = read_folder(RESULTS / name)
    if name not in OLDER and (differ := tables.older(found)):
        raise UserError(
            f"{RESULTS / name}: results are of another version of the code ({differ}): measure again, or add {name} to "
            "OLDER in experiments/results.py"
        )
    if tested := found.about.get("differences"):
        of = {name: tested["of"], **tested.get("corrected_with", {})}
        if any(digest != file_digest(RESULTS / each / "results.csv") for each, digest in of.items()):
            together = " ".join(f"docs/results/{each}" for each in of)
            raise UserError(
                f"{RESULTS / name}: the paired tests are of other results: run experiments/compare.py {together} again"
            )
    return found


def folders() -> list[str]:
    """Of the studies, and of each fold of one on folds."""
    return sorted(path.parent.relative_to(RESULTS).as_posix() for path in RESULTS.rglob("study.json"))


def fill(page: str) -> str:
    """The page with every marked block written again."""

    def block(found: re.Match[str]) -> str:
        if found[2] not in BLOCKS:
            raise UserError(f"results: {found[2]} is not a block of experiments/results.py: {', '.join(BLOCKS)}")
        folder, table = BLOCKS[found[2]]
        return f"{found[1]}{table(study_of(folder))}\n{found[3]}"

    return PATTERN.sub(block, page)


def written() -> dict[Path, bytes]:
    """Every file that the results make, with its content."""
    files = {ROOT / name: fill((ROOT / name).read_text(encoding="utf-8")).encode() for name in PAGES}
    for name in folders():
        study, folder = study_of(name), RESULTS / name
        files[folder / "tables.md"] = tables.page(study).encode()
        for family in tables.families(study):
            files[folder / tables.forest_file(family)] = tables.forest(study, family)
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        files = written()
    except UserError as error:
        log.info("%s", error)
        return 2
    changed = [path for path, content in files.items() if not path.is_file() or path.read_bytes() != content]
    for path in changed:
        log.info("%s %s", "out of date, run `make results`:" if check else "written:", path.relative_to(ROOT))
        if not check:
            path.write_bytes(files[path])
    return 1 if check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
