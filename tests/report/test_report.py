import re
from collections.abc import Callable
from pathlib import Path

import pytest
import results_files
from folders import write_folder

from imitate.cli import main
from imitate.commands.report import report
from imitate.errors import UserError
from imitate.tasks import TASKS, find_task

WRITERS: dict[str, Callable[..., Path]] = {
    "segmentation": results_files.segmentation,
    "detection": results_files.detection,
    "grounding": results_files.grounding,
    "calibration": results_files.calibration,
    "retrieval": results_files.retrieval,
}
EVIL = "<script>alert(1)</script> & $x_^"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Every task, two methods; the predictions are there, the prepared folder is not."""
    root = tmp_path_factory.mktemp("results")
    paths = []
    for task in TASKS:
        for model in ("IMITATE", EVIL):
            path = root / f"{task}-{len(paths)}.json"
            if task in WRITERS:
                paths.append(WRITERS[task](path, model=model))
            else:
                paths.append(results_files.classification(path, task=task, model=model, n=100))
    return report(tuple(paths), out=root / "new" / "report.html").read_text(encoding="utf-8")


def test_every_task_has_a_section_and_a_way_to_it(page: str) -> None:
    for task in TASKS:
        assert f"<h2>{find_task(task).title} on folder</h2>" in page
    links, ids = re.findall(r'href="#([^"]*)"', page), re.findall(r'<section id="([^"]*)"', page)
    assert len(set(ids)) == len(ids) == len(TASKS)
    assert set(links) == set(ids)


def test_the_page_asks_nobody_for_anything(page: str) -> None:
    assert not re.findall(r"https?://|//[a-z]+\.[a-z]|@import|url\(", page)
    assert not re.findall(r"<(?:script|link|iframe|object|form)", page)
    assert set(re.findall(r'src="([^,"]*)', page)) == {"data:image/svg+xml;base64"}


def test_names_are_escaped_everywhere(page: str) -> None:
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; $x_^" in page


def test_no_patient_no_image_and_no_radiograph_by_default(page: str) -> None:
    assert not re.findall(r"patient\d{4}|image\d{4}|image/png", page)
    examples = len(WRITERS) - 1  # a calibration has none
    assert page.count("give --data the prepared folder of fingerprint 01234567") == examples


def test_it_says_what_it_is(page: str) -> None:
    assert "Research software, not a medical device." in page
    assert re.search(r"Written \d{4}-\d\d-\d\d \d\d:\d\d UTC by imitate \d", page)
    assert "over patients and seeds" in page


def test_every_image_has_words_and_every_table_a_caption(page: str) -> None:
    assert len(re.findall(r"<img [^>]*alt=\"[^\"]+\"", page)) == page.count("<img ") > 30
    assert page.count("<caption>") == page.count("<table>") > 18


def test_with_the_folder_there_are_radiographs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_folder(tmp_path / "folder", fingerprint=results_files.DATA["fingerprint"])
    other = write_folder(tmp_path / "other", seed=1)
    path = results_files.detection(tmp_path / "a.json")
    out = report((path,), out=tmp_path / "report.html", data=(root, other))
    assert out.read_text().count("data:image/png;base64,") == 3
    assert f"{other}: no results belong to this folder" in caplog.text


def test_the_figures_are_the_same_every_time(tmp_path: Path) -> None:
    path = results_files.classification(tmp_path / "a.json", n=60)
    pages = [report((path,), out=tmp_path / f"{i}.html").read_text() for i in range(2)]
    drawn = [re.findall(r'src="([^"]*)"', page) for page in pages]
    assert drawn[0] == drawn[1] and len(drawn[0]) == 10


def test_a_page_can_be_made_without_predictions(tmp_path: Path) -> None:
    for task, write in WRITERS.items():
        path = write(tmp_path / f"{task}.json")
        path.with_suffix(".npz").unlink()
    out = report(tuple(tmp_path / f"{task}.json" for task in WRITERS), out=tmp_path / "report.html")
    assert (
        out.read_text().count("<section")
        == out.read_text().count("of IMITATE are not beside their results")
        == len(WRITERS)
    )


@pytest.mark.parametrize("out", ["report", "report.json", "."])
def test_out_is_a_page(tmp_path: Path, out: str) -> None:
    path = results_files.detection(tmp_path / "a.json")
    with pytest.raises(UserError, match=r"must be the path of a \.html or \.md file"):
        report((path,), out=tmp_path / out)


def test_out_cannot_be_written(tmp_path: Path) -> None:
    path = results_files.detection(tmp_path / "a.json")
    with pytest.raises(UserError, match="cannot write"):
        report((path,), out=path / "report.html")


def test_nothing_to_report() -> None:
    with pytest.raises(UserError, match="no results files given"):
        report(())


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [results_files.detection(tmp_path / f"{name}.json", model=name) for name in "ab"]
    out = tmp_path / "page.html"
    assert main(["report", *map(str, paths), "--out", str(out), "--show-reports"]) == 0
    assert "<h2>Detection on folder</h2>" in out.read_text()
    assert main(["report", str(tmp_path / "none.json"), "--out", str(out)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
