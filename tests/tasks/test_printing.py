import io
import logging
import os
import sys

import pytest

from imitate.tasks.base import Estimate, Results, extent
from imitate.tasks.printing import shown, warned_once


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def results(metrics: dict[str, Estimate]) -> Results:
    data = {"name": "chest", "split": "test", "images": 9, "patients": 4}
    return Results(
        task="linear-classification",
        model="IMITATE",
        data=data,
        mode="clean",
        fraction=1,
        seeds=[0],
        settings={},
        metrics=metrics,
        per_seed=[],
        versions={},
        seconds=1,
    )


def test_metrics_in_lines_and_classes_side_by_side() -> None:
    metrics = {
        "auroc": Estimate(value=0.75, low=0.5, high=0.875, chance=0.5, note="some class undefined in 3% of it"),
        "auroc/Edema": Estimate(value=0.5, note="not shown"),
        "auroc/Mass": Estimate(value=None),
        "accuracy": Estimate(value=0.25),
        "recall@1/both": Estimate(value=0.125),
    }
    assert shown(results(metrics)).splitlines() == [
        "linear-classification: IMITATE on chest, split test, 9 images of 4 patients, 1 seed",
        "                  value     95% interval  chance",
        "  auroc          0.7500  0.5000 - 0.8750  0.5000",
        "  accuracy       0.2500",
        "  recall@1/both  0.1250",
        "",
        "          auroc",
        "  Edema  0.5000",
        "  Mass        -",
        "  auroc: some class undefined in 3% of it",
    ]


def test_what_a_bootstrap_draws_is_named() -> None:
    data = {"images": 1200, "patients": 900}
    assert extent(data) == "1,200 images of 900 patients"
    assert extent({**data, "unit": "studies"}) == "1,200 images of 900 studies"
    assert extent({**data, "unit": "images"}) == "1,200 images, whose patients are not known"


def test_a_table_that_is_wider_than_the_terminal_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    bases = ["auroc", "average-precision", "oracle-max-f1", "oracle-accuracy"]
    found = {base: Estimate(value=0.5) for base in bases}
    found |= {f"{base}/Pleural Effusion": Estimate(value=0.25) for base in bases}
    monkeypatch.setattr(sys, "stdout", Terminal())
    for columns in (200, 48, 20):
        monkeypatch.setattr("shutil.get_terminal_size", lambda columns=columns: os.terminal_size((columns, 24)))
        lines = shown(results(found)).splitlines()[1:]
        assert sum(line.count("0.2500") for line in lines) == 4
        heads = [line.split() for line in lines if not line.startswith("  Pleural") and "0.5" not in line]
        assert [word for line in heads for word in line][1:] == bases
        tables = sum(line.startswith("  Pleural Effusion") for line in lines)
        assert tables == {200: 1, 48: 3, 20: 4}[columns]
        assert max(map(len, lines)) <= max(columns, len("  Pleural Effusion  average-precision"))


def test_a_warning_is_given_once_to_each_handler(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("imitate.tasks.test")
    with caplog.at_level("INFO"), warned_once():
        for seed in range(2):
            log.warning("no prompts for %s", "Hernia")
            log.warning("seed %d is odd", seed)
            log.info("fitting")
    log.warning("no prompts for Hernia")
    found = [record.getMessage() for record in caplog.records]
    once = ["no prompts for Hernia", "seed 0 is odd", "fitting", "seed 1 is odd", "fitting"]
    assert found == [*once, "no prompts for Hernia"]


def test_levels_of_several_seeds_and_notes_that_metrics_share() -> None:
    metrics = {
        "map": Estimate(value=0.5, low=0.25, chance=None, shuffled=0.125, note="few"),
        "ap50": Estimate(value=0.75, high=1.0, shuffled=0.5, note="few"),
        "froc": Estimate(value=None, note="undefined"),
        "map/small": Estimate(value=0.0625),
        "ap50/large": Estimate(value=1.0),
    }
    found = results(metrics).model_copy(update={"seeds": [0, 1]})
    assert shown(found) == (
        "linear-classification: IMITATE on chest, split test, 9 images of 4 patients, 2 seeds\n"
        "         value  shuffled\n"
        "  map   0.5000    0.1250\n"
        "  ap50  0.7500    0.5000\n"
        "  froc       -\n"
        "\n"
        "            map    ap50\n"
        "  small  0.0625       -\n"
        "  large       -  1.0000\n"
        "  map, ap50: few\n"
        "  froc: undefined\n"
    )
