import re
from pathlib import Path

import pytest
import results_files
from results_files import estimated

from imitate.report import figures, tables
from imitate.report.groups import Group, read_groups
from imitate.report.page import Html, note
from imitate.tasks.base import Published
from imitate.tasks.results import read_results


def group_of(tmp_path: Path, main: str, values: dict[str, float | None]) -> Group:
    """One result a method; intervals of 0.03 on either side."""
    write = results_files.segmentation if main == "false_positive_rate" else results_files.detection
    paths = [
        write(tmp_path / f"{name}.json", model=name, metrics={main: estimated(float("nan") if value is None else value)})
        for name, value in values.items()
    ]  # fmt: skip
    (group,) = read_groups(paths)
    return group


def rows(table: Html) -> list[list[str]]:
    """The words of each row's cells."""
    found = re.findall(r"<tr>(.*?)</tr>", table)
    return [
        [" ".join(re.sub(r"<[^>]*>", " ", cell).split()) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]
        for row in found
    ]


def bold(table: Html) -> list[str]:
    return re.findall(r"<strong>(.*?)</strong>", table)


def test_methods_are_rows_and_shares_are_columns(tmp_path: Path) -> None:
    paths = [
        results_files.segmentation(tmp_path / f"{model}-{share}.json", model=model, fraction=share, skill=skill)
        for model, share, skill in (("IMITATE", 0.01, 0.5), ("IMITATE", 1.0, 0.7), ("random", 1.0, 0.2))
    ]
    (group,) = read_groups(paths)
    head, shares, imitate, random, chance = rows(tables.main_table(group, figures.styles(list(group.methods))))
    assert head == ["method", "Dice", "Dice, positives only", "false-positive rate"]
    assert shares == ["1%", "100%"] * 3
    assert imitate[:3] == ["● IMITATE", "65.0 62.0–68.0", "75.0 72.0–78.0"]
    assert random[:3] == ["● random", "–", "50.0 47.0–53.0"]
    assert chance == ["chance", "78.0", "78.0", "0.0", "0.0", "0.0", "0.0"]


def test_published_rows_are_marked_and_only_at_measured_shares(tmp_path: Path) -> None:
    quoted = Published(source="Someone, Table 1", shares=(0.01, 1.0), rows={"Other": {"dice": (12.3, None)}})
    paths = [
        results_files.segmentation(tmp_path / f"{share}.json", fraction=share, published=quoted)
        for share in (0.1, 0.01, 1)
    ]
    (group,) = read_groups(paths)
    table = tables.main_table(group, figures.styles(["IMITATE"]))
    assert rows(table)[-1] == ["Other, published", "12.3", "–", "–", *["–"] * 6]
    assert 'class="published"' in table
    told = "".join(tables.notes(group))
    assert told.count("published were not measured here: they are quoted from Someone, Table 1.") == 1


def test_published_figures_of_retrieval_stand_in_their_own_direction(tmp_path: Path) -> None:
    name = "precision@1/both/image-to-text"
    quoted = Published(source="Someone", rows={"Other": {name: (35.0,)}})
    path = results_files.retrieval(tmp_path / "a.json", published=quoted)
    results = read_results(path)
    more = results.model_copy(update={"metrics": {**results.metrics, name: estimated(0.4)}})
    path.write_text(more.model_dump_json())
    (group,) = read_groups([path])
    _, below, imitate, *_, other = rows(tables.main_table(group, figures.styles(["IMITATE"])))
    assert below == ["R@1", "R@5", "R@10", "P@1", "R@1", "R@5", "R@10"]
    assert imitate[5].startswith("40.0") and other == ["Other, published", *["–"] * 4, "35.0", *["–"] * 3]


def test_a_probe_without_its_baselines_is_told(tmp_path: Path) -> None:
    def told(*encoders: str) -> str:
        paths = [
            results_files.classification(tmp_path / f"{name}.json", n=40, model=name, encoders=[name])
            for name in encoders
        ]
        return "".join(tables.notes(read_groups(paths)[0]))

    assert "add the baselines random and pixels: imitate evaluate --beside random pixels." in told("run")
    assert "the baselines pixels: imitate evaluate --beside pixels." in told("run", "random")
    assert "the baselines" not in told("run", "random", "pixels")


def test_retrieval_stands_beside_chance_and_exchanged_images(tmp_path: Path) -> None:
    (group,) = read_groups([results_files.retrieval(tmp_path / "a.json", skill=0.3)])
    head, below, imitate, chance, exchanged = rows(tables.main_table(group, figures.styles(["IMITATE"])))
    assert head == ["method", "mean recall", "image → text", "text → image"]
    assert below == ["R@1", "R@5", "R@10"] * 2
    assert imitate[1:3] == ["30.0 27.0–33.0", "30.0 27.0–33.0"]
    assert chance[:3] == ["chance", "12.5", "2.5"]
    assert exchanged[:3] == ["IMITATE, images exchanged", "15.0", "3.0"]


@pytest.mark.parametrize(
    ("main", "values", "best"),
    [
        ("map", {"a": 0.50, "b": 0.46}, ["50.0"]),  # .47 to .53 leaves out .46
        ("map", {"a": 0.50, "b": 0.48}, []),
        ("map", {"a": 0.30, "b": 0.34, "c": 0.50}, ["50.0"]),
        ("map", {"a": 0.50}, []),
        ("map", {"a": 0.50, "b": None}, []),
        ("false_positive_rate", {"a": 0.10, "b": 0.20}, ["10.0"]),
    ],
)
def test_bold_is_the_best_that_its_interval_tells_from_the_next(
    tmp_path: Path, main: str, values: dict[str, float | None], best: list[str]
) -> None:
    group = group_of(tmp_path, main, values)
    assert bold(tables.main_table(group, figures.styles(list(values)))) == best


def test_undefined_is_not_absent(tmp_path: Path) -> None:
    group = group_of(tmp_path, "map", {"a": 0.5, "b": None})
    other = results_files.detection(tmp_path / "c.json", model="c", metrics={"ap50": estimated(0.4)})
    (group,) = read_groups([*(entry.path for entry in group.entries), other])
    cells = rows(tables.main_table(group, figures.styles(list("abc"))))
    assert [row[1] for row in cells[1:]] == ["50.0 47.0–53.0", "undefined", "–"]


def test_all_figures_hold_every_class(tmp_path: Path) -> None:
    (group,) = read_groups([results_files.classification(tmp_path / "a.json", n=200)])
    found = rows(tables.all_figures(group, figures.styles(["IMITATE"])))
    assert [row[0] for row in found[1:6]] == ["AUROC", *(f"AUROC · {name}" for name in results_files.CLASSES)]
    assert found[5][1:] == ["50.0", "undefined"]
    assert len(found) == 11


def test_notes_name_undefined_classes_once(tmp_path: Path) -> None:
    paths = [
        results_files.classification(
            tmp_path / f"{name}.json", model=name, n=60, mode="paper", encoders=["random", "pixels"]
        )
        for name in "ab"
    ]
    (group,) = read_groups(paths)
    told = "undefined and left out: Fracture"
    assert tables.notes(group) == [note(tables.PAPER), note(f"AUROC: {told}")]
    assert note(f"average precision: {told}") in tables.all_figures(group, figures.styles(list("ab")))


def test_a_note_on_some_results_says_on_which(tmp_path: Path) -> None:
    paths = [
        results_files.detection(tmp_path / "a.json", model="a", metrics={"map": estimated(0.1, note="half of it")}),
        results_files.detection(tmp_path / "b.json", model="b", fraction=0.1),
    ]
    (group,) = read_groups(paths)
    (told,) = tables.notes(group)
    assert "mAP, IoU .40 to .75: half of it (a at 100% of the training patients)" in told


def test_runs_tell_settings_without_folders(tmp_path: Path) -> None:
    settings = {"prompts": "/home/someone/private/prompts.yaml", "branch": "both"}
    (group,) = read_groups(
        [results_files.classification(tmp_path / "a.json", task="zero-shot", settings=settings, n=60)]
    )
    told = tables.runs(group)
    assert "prompts prompts.yaml; branch both" in told
    assert "someone" not in told and str(tmp_path) not in told
    assert rows(told)[1][:6] == ["a.json", "IMITATE", "100%", "2", "clean", "82"]


@pytest.mark.parametrize(
    ("figure", "label"),
    [
        ("auroc/Pleural Effusion", "AUROC · Pleural Effusion"),
        ("froc/0.125", "FROC sensitivity · 0.125 false positives an image"),
        ("recall@5/both/text-to-image", "R@5 · both · text → image"),
        ("precision@100/findings/image-to-text", "P@100 · findings · image → text"),
        ("something_new", "something_new"),
    ],
)
def test_labels(figure: str, label: str) -> None:
    assert tables.label(figure) == label


def test_the_overview_leads_to_every_section(tmp_path: Path) -> None:
    groups = read_groups(
        [results_files.retrieval(tmp_path / "r.json"), results_files.detection(tmp_path / "d.json", model="random")]
    )
    _, detection, retrieval = rows(tables.overview(groups, figures.styles(["random", "IMITATE"])))
    assert detection == [
        "Detection on folder mAP, IoU .40 to .75 at 100% of the training patients",
        "–",
        "20.0 17.0–23.0",
        "–",
    ]
    assert retrieval == ["Retrieval on folder mean recall", "12.5", "–", "30.0 27.0–33.0"]
