from pathlib import Path

import pytest
import results_files
from results_files import estimated

from imitate.report import curves, figures, tables
from imitate.report.groups import Group, read_groups
from imitate.report.markdown import markdown
from imitate.report.page import Table
from imitate.tasks.base import Estimate, Published
from imitate.tasks.results import read_results


def group_of(tmp_path: Path, main: str, values: dict[str, float | None]) -> Group:
    """One result a method; intervals of 0.03 on either side."""
    paths = [
        results_files.detection(tmp_path / f"{name}.json", model=name, metrics={main: estimated(float("nan") if value is None else value)})
        for name, value in values.items()
    ]  # fmt: skip
    (group,) = read_groups(paths)
    return group


def rows(table: Table) -> list[list[str]]:
    """The texts of each line's cells, those of the heading first."""
    head = [[table.corner, *(column.text for column in table.columns)]]
    below = [[part for column in table.columns for part in column.parts]] if table.deep else []
    return (
        head
        + below
        + [
            [f"{line.heading} {line.small}".strip(), *(f"{cell.value} {cell.interval}".strip() for cell in line.cells)]
            for line in table.lines
        ]
    )


def bold(table: Table) -> list[str]:
    return [cell.value for line in table.lines for cell in line.cells if cell.bold]


def test_methods_are_lines_and_fractions_are_columns(tmp_path: Path) -> None:
    paths = [
        results_files.segmentation(tmp_path / f"{model}-{each}.json", model=model, fraction=each, skill=skill)
        for model, each, skill in (("IMITATE", 0.01, 0.5), ("IMITATE", 1.0, 0.7), ("random", 1.0, 0.2))
    ]
    (group,) = read_groups(paths)
    head, fractions, imitate, random, chance = rows(tables.main_table(group, figures.styles(list(group.methods))))
    assert head == ["method", "Dice", "Dice, positives only", "false-positive rate"]
    assert fractions == ["1%", "100%"] * 3
    assert imitate[:3] == ["IMITATE", "65.0 62.0–68.0", "75.0 72.0–78.0"]
    assert random[:3] == ["random", "–", "50.0 47.0–53.0"]
    assert chance == ["chance", "78.0", "78.0", "0.0", "0.0", "0.0", "0.0"]


def test_distances_are_in_pixels_and_all_else_in_percent(tmp_path: Path) -> None:
    found = {"dice": estimated(0.5, chance=0.2), "hd95": Estimate(value=12.34, low=10, high=15, chance=45.25)}
    path = results_files.segmentation(tmp_path / "a.json", metrics=found)
    (group,) = read_groups([path])
    look = figures.styles(list(group.methods))
    (table,) = tables.all_metrics(group, look)
    assert rows(table)[1:] == [
        ["Dice", "20.0", "50.0 47.0–53.0"],
        ["HD95 in px, positives only", "45.2", "12.3 10.0–15.0"],
    ]
    (main,) = read_groups([results_files.segmentation(tmp_path / "b.json", metrics=found, headline="hd95")])
    line = next(line for line in markdown([main]).splitlines() if "HD95" in line)
    assert [cell.strip() for cell in line.split("|")[2:4]] == ["45.2", "12.3 (10.0–15.0)"]
    (alt,) = [alt for figure in curves.summary(group, look) for alt in figure.images]
    assert "Dice" in alt and "HD95" not in alt  # the axis is in percent


def test_published_values_are_marked_and_only_at_measured_fractions(tmp_path: Path) -> None:
    quoted = Published(source="Someone, Table 1", shares=(0.01, 1.0), rows={"Other": {"dice": (12.3, None)}})
    paths = [
        results_files.segmentation(tmp_path / f"{each}.json", fraction=each, published=quoted)
        for each in (0.1, 0.01, 1)
    ]
    (group,) = read_groups(paths)
    table = tables.main_table(group, figures.styles(["IMITATE"]))
    assert rows(table)[-1] == ["Other, published", "12.3", "–", "–", *["–"] * 6]
    assert table.lines[-1].kind == "published"
    quotes = [note for note in tables.notes(group) if "not measured here" in note]
    assert len(quotes) == 1 and quotes[0].endswith("their values are quoted from Someone, Table 1.")


def test_published_metrics_of_retrieval_stand_in_their_own_direction(tmp_path: Path) -> None:
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


def test_a_probe_without_its_baselines_says_so(tmp_path: Path) -> None:
    def noted(*encoders: str) -> str:
        paths = [
            results_files.classification(tmp_path / f"{name}.json", n=40, model=name, encoders=[name])
            for name in encoders
        ]
        return "".join(tables.notes(read_groups(paths)[0]))

    assert "add the baselines random and pixels: imitate evaluate --beside random pixels." in noted("run")
    assert "add the baseline pixels: imitate evaluate --beside pixels." in noted("run", "random")
    assert "baseline" not in noted("run", "random", "pixels")


def test_retrieval_stands_beside_chance_and_shuffled_images(tmp_path: Path) -> None:
    (group,) = read_groups([results_files.retrieval(tmp_path / "a.json", skill=0.3)])
    head, below, imitate, chance, shuffled = rows(tables.main_table(group, figures.styles(["IMITATE"])))
    assert head == ["method", "mean recall", "image → text", "text → image"]
    assert below == ["R@1", "R@5", "R@10"] * 2
    assert imitate[1:3] == ["30.0 27.0–33.0", "30.0 27.0–33.0"]
    assert chance[:3] == ["chance", "12.5", "2.5"]
    assert shuffled[:3] == ["IMITATE, shuffled", "15.0", "3.0"]


def test_bold_is_the_best_method_of_a_metric(tmp_path: Path) -> None:
    group = group_of(tmp_path, "map", {"a": 0.50, "b": 0.46})
    look = figures.styles(["a", "b"])
    assert bold(tables.main_table(group, look)) == []
    assert bold(tables.main_table(group._replace(best={(1.0, "map"): "b"}), look)) == ["46.0"]


def test_every_table_names_its_split(tmp_path: Path) -> None:
    group = group_of(tmp_path, "map", {"a": 0.5})
    look = figures.styles(["a"])
    captions = [table.caption for table in (tables.main_table(group, look), *tables.all_metrics(group, look))]
    assert all(", split test" in caption for caption in captions) and len(captions) == 2


def test_undefined_is_not_absent(tmp_path: Path) -> None:
    group = group_of(tmp_path, "map", {"a": 0.5, "b": None})
    other = results_files.detection(tmp_path / "c.json", model="c", metrics={"ap50": estimated(0.4)})
    (group,) = read_groups([*(entry.path for entry in group.entries), other])
    cells = rows(tables.main_table(group, figures.styles(list("abc"))))
    assert [row[1] for row in cells[1:]] == ["50.0 47.0–53.0", "undefined", "–"]


def test_all_metrics_have_every_class(tmp_path: Path) -> None:
    (group,) = read_groups([results_files.classification(tmp_path / "a.json", n=200)])
    (table,) = tables.all_metrics(group, figures.styles(["IMITATE"]))
    found = rows(table)
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
    assert tables.notes(group) == [tables.PAPER, "AUROC, average precision: undefined and left out: Fracture"]
    assert tables.all_notes(group) == []


def test_notes_on_resamples_are_one_line_above_and_one_a_count_below(tmp_path: Path) -> None:
    notes = {"auroc": "undefined in 0.1% of the resamples", "map": "", "ap50": "undefined in 12.5% of the resamples"}
    found = {name: estimated(0.5, note=note) for name, note in notes.items()}
    paths = [results_files.detection(tmp_path / f"{name}.json", model=name, metrics=found) for name in "ab"]
    other = results_files.detection(tmp_path / "c.json", model="c", metrics={**found, "map": found["auroc"]})
    (group,) = read_groups([*paths, other])
    (note,) = tables.notes(group)
    assert note.startswith("Some metrics are undefined in some of the resamples")
    assert tables.all_notes(group) == [
        "AP, IoU .50: undefined in 12.5% of the resamples",
        "mAP, IoU .40 to .75 (c at 100% of the training patients), AUROC: undefined in 0.1% of the resamples",
    ]


def test_a_note_on_some_results_says_on_which(tmp_path: Path) -> None:
    paths = [
        results_files.detection(tmp_path / "a.json", model="a", metrics={"map": estimated(0.1, note="half of it")}),
        results_files.detection(tmp_path / "b.json", model="b", fraction=0.1),
    ]
    (group,) = read_groups(paths)
    assert tables.notes(group) == ["mAP, IoU .40 to .75 (a at 100% of the training patients): half of it"]


def test_runs_name_settings_without_folders(tmp_path: Path) -> None:
    settings = {"prompts": "/home/someone/private/prompts.yaml", "branch": "both"}
    (group,) = read_groups(
        [results_files.classification(tmp_path / "a.json", task="zero-shot", settings=settings, n=60)]
    )
    table = tables.runs(group)
    assert rows(table)[1][6] == "prompts prompts.yaml; branch both"
    assert "someone" not in repr(table) and str(tmp_path) not in repr(table)
    assert rows(table)[1][:6] == ["a.json", "IMITATE", "nothing", "2", "clean", "82"]


def test_runs_count_patients_and_distinguish_heads_from_pre_trainings(tmp_path: Path) -> None:
    train = {"name": "folder", "fingerprint": "f", "images": 1200, "patients": 700}
    fits = [{"run": 0, "head": 0}, {"run": 0, "head": 1}]
    made = {"train": train, "fits": fits, "used": {"path": "augmented"}, "method": "2.1", "weights": ["0123456789"] * 2}
    where = {
        "device": "cpu",
        "precision": "float32",
        "resamples": 500,
        "versions": {"torch": "2.14"},
        "commit": "c" * 40,
    }
    path = results_files.classification(tmp_path / "a.json", mode="paper", fraction=0.1, n=60, **made, **where)
    (group,) = read_groups([path])
    assert rows(tables.runs(group))[1][2:4] == [
        "10% of the images: 1,200 images of 700 patients of folder",
        "2 fits on 1 encoder",
    ]
    assert rows(tables.runs(group))[1][6:] == [
        "path augmented",
        "method 2.1; torch 2.14; commit cccccccccccc; weights 01234567; resamples 500; cpu; float32",
    ]
    assert tables.at_fraction(group, 0.1) == " at 10% of the training images"


@pytest.mark.parametrize(
    ("metric", "label"),
    [
        ("auroc/Pleural Effusion", "AUROC · Pleural Effusion"),
        ("froc/0.125", "FROC sensitivity · 0.125 false positives an image"),
        ("recall@5/both/text-to-image", "R@5 · both · text → image"),
        ("precision@100/findings/image-to-text", "P@100 · findings · image → text"),
        ("something_new", "something_new"),
    ],
)
def test_labels(metric: str, label: str) -> None:
    assert tables.label(metric) == label


def test_the_overview_leads_to_every_section(tmp_path: Path) -> None:
    groups = read_groups(
        [results_files.retrieval(tmp_path / "r.json"), results_files.detection(tmp_path / "d.json", model="random")]
    )
    _, detection, retrieval = rows(tables.overview(groups, figures.styles(["random", "IMITATE"])))
    assert detection == [
        "Detection on folder mAP, IoU .40 to .75 at 100% of the training patients, split test",
        "–",
        "20.0 17.0–23.0",
        "–",
    ]
    assert retrieval == ["Retrieval on folder mean recall, split test", "12.5", "–", "30.0 27.0–33.0"]
