"""Fill the table of docs/reliability.md from docs/results/reliability/*.json.

python tests/stress/summary.py
"""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

HEADS = ("Test", "Size", "Outcome", "File")
ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs/results/reliability"
PAGE = ROOT / "docs/reliability.md"
START, END = "<!-- figures -->\n", "<!-- end -->"
Counts = dict[str, Any]
Line = tuple[str, Callable[[Counts], tuple[str, str]]]


def _images(found: Counts) -> tuple[str, str]:
    damaged, dropped = (sum(found[key].values()) for key in ("damaged", "dropped"))
    kinds = f"{damaged:,} images of {len(found['damaged'])} archives, {len(found['faults'])} kinds of damage"
    return (
        kinds,
        f"{dropped:,} excluded with their reason, the others readable; good records unchanged; no crash, no hang",
    )


def _tables(found: Counts) -> tuple[str, str]:
    outcomes = sum((Counter(each) for each in found["outcomes"].values()), Counter[str]())
    return f"{outcomes.total():,} tables", ", ".join(f"{count:,} {what}" for what, count in sorted(outcomes.items()))


def _parser(found: Counts) -> tuple[str, str]:
    slowest = 1000 * found["slowest_input_seconds"]
    return f"{found['inputs']:,} inputs", f"no exception other than a one-line error; slowest input {slowest:,.0f} ms"


def _kills(found: Counts) -> tuple[str, str]:
    what = f"{found['images']} images" if "images" in found else f"{found['steps']} steps"
    return f"{found['kills']} kills within {what}", "every run continued; the final files are identical bit for bit"


def _rank(found: Counts) -> tuple[str, str]:
    seconds, before, steps = found["seconds_until_the_other_ended"], found["steps_before"], found["steps"]
    return (
        "once",
        f"the other ended with one line after {seconds} s; one process continued from step {before} to step {steps}",
    )


def _checkpoints(found: Counts) -> tuple[str, str]:
    outcome = f"{found['noticed']} detected, the previous one used; {found['harmless']} in bytes without content"
    return f"{found['damaged']:,} checkpoints", outcome


def _api(found: Counts) -> tuple[str, str]:
    responses = ", ".join(f"{count:,} x {code}" for code, count in sorted(found["answers"].items()))
    return f"{found['questions']:,} requests to {found['operations']} operations", f"as the schema says: {responses}"


def _training(found: Counts) -> tuple[str, str]:
    before, after = found["handles"]
    return f"{found['steps']:,} steps", f"memory grew {found['grown_mb'] + 0:.1f} MB; open files {before} to {after}"


def _viewer(found: Counts) -> tuple[str, str]:
    memory, latency = found["memory_mb"], found["latency"]["classify"]
    outcome = (
        f"{found['unexpected']} unexpected responses; memory {memory['after_a_third']:,} MB after a third, "
        f"{memory['last']:,} MB at the end; classify takes {latency['p50']:.2f} s in the median, "
        f"{latency['p99']:.2f} s at the 99th percentile"
    )
    return f"{found['clients']} clients, {found['seconds']:.0f} s, {found['requests']:,} requests", outcome


def _mutants(found: Counts) -> tuple[str, str]:
    killed, drawn, in_all = (sum(each[key] for each in found.values()) for key in ("killed", "mutants", "in_all"))
    files = sum(len(each["files"]) for each in found.values())
    each_group = ", ".join(f"{name} {each['fraction']:.1%}" for name, each in found.items())
    return f"{drawn:,} of {in_all:,} mutants of {files} files", f"{killed:,} killed: {each_group}"


LINES: dict[str, Line] = {
    "dirty_images": ("Damaged images", _images),
    "dirty_tables": ("Damaged tables", _tables),
    "parser_report": ("Report sections", _parser),
    "parser_run": ("Run lengths", _parser),
    "parser_object-cxr": ("Object-CXR annotations", _parser),
    "parser_recipes": ("Recipes and settings", _parser),
    "parser_prompts": ("Prompts", _parser),
    "kills_prepare": ("`prepare` killed", _kills),
    "kills_pretrain": ("`pretrain` killed", _kills),
    "damaged_checkpoints": ("Damaged checkpoints", _checkpoints),
    "rank_0_killed": ("Rank 0 of two killed", _rank),
    "rank_1_killed": ("Rank 1 of two killed", _rank),
    "api": ("The viewer's API", _api),
    "soak_training": ("Training in one process", _training),
    "soak_viewer": ("The viewer under load", _viewer),
    "mutants": ("Mutants", _mutants),
}


def table() -> str:
    lines = []
    for name, (title, words) in LINES.items():
        path = RESULTS / f"{name}.json"
        if path.is_file():
            size, outcome = words(json.loads(path.read_text(encoding="utf-8")))
            lines.append([title, size, outcome, f"[{path.name}](results/reliability/{path.name})"])
        else:
            lines.append([title, "not measured yet", "", ""])
    return str(pd.DataFrame(lines, columns=HEADS).to_markdown(index=False, disable_numparse=True))


def filled(page: str) -> str:
    before, _, rest = page.partition(START)
    return f"{before}{START}{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
