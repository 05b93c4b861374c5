import json
import re
from pathlib import Path

import results_files

from imitate.commands.report import report


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_tables_have_the_metrics_of_the_files(tmp_path: Path) -> None:
    paths = [
        results_files.classification(tmp_path / "a.json", task="linear-classification", model="IMITATE | ours", n=100),
        results_files.classification(tmp_path / "b.json", task="linear-classification", model="untrained", n=100),
    ]
    text = report(tuple(paths), out=tmp_path / "new" / "results.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert cells(lines[0]) == ["", "chance", "IMITATE ∣ ours", "untrained"]
    assert {line.count("|") for line in lines} == {5} and re.fullmatch(r"\|:-+\|(-+:\|){3}", lines[1])
    auroc = json.loads(paths[0].read_text(encoding="utf-8"))["metrics"]["auroc"]
    expected = f"{100 * auroc['value']:.1f} ({100 * auroc['low']:.1f}–{100 * auroc['high']:.1f})"
    assert next(found for line in lines if (found := cells(line))[0] == "AUROC")[1:3] == ["50.0", expected]


def test_retrieval_shows_the_rank_of_both_branches_beside_recall(tmp_path: Path) -> None:
    path = results_files.retrieval(tmp_path / "r.json", model="IMITATE")
    results = json.loads(path.read_text(encoding="utf-8"))
    for branch in ("both", "findings"):
        results["metrics"][f"percentile/{branch}/image-to-text"] = results["metrics"]["mean-recall"]
    path.write_text(json.dumps(results), encoding="utf-8")
    text = report((path,), out=tmp_path / "r.md").read_text(encoding="utf-8")
    names = [cells(line)[0] for line in text.splitlines()]
    assert "R@10 · both · image → text" in names and "percentile rank · both · image → text" in names
    assert "findings" not in text


def test_every_table_of_the_page_of_heat_maps_is_written_from_results() -> None:
    """Those between the marks, which test_everything_made_from_results_is_up_to_date compares with their files."""
    page = (Path(__file__).parents[2] / "docs/heatmaps.md").read_text(encoding="utf-8")
    blocks = r"<!-- results: .*?<!-- end -->"
    assert len(re.findall(blocks, page, re.DOTALL)) == 7
    assert "\n|" not in re.sub(blocks, "", page, flags=re.DOTALL)
