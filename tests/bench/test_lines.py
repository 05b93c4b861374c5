"""Which models are the lines of a table, and which of them are the seeds of one."""

from pathlib import Path

import pytest
import yaml

from imitate.bench.lines import Line, lines
from imitate.errors import UserError


def write_run(folder: Path, *, seed: int = 0, finished: bool = True, **training: object) -> str:
    (folder / "model" if finished else folder).mkdir(parents=True)
    recipe = {"model": {"backbone": "resnet18"}, "training": {"seed": seed, **training}}
    (folder / "config.yaml").write_text(yaml.safe_dump(recipe))
    return str(folder)


def found(*words: object, **options: str) -> dict[str, tuple[str, ...]]:
    return {line.name: line.models for line in lines(list(map(str, words)), **options)}


def test_a_folder_of_runs_stands_for_all_of_them_and_seeds_of_one_recipe_are_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours = [write_run(tmp_path / "runs" / "ours" / str(seed), seed=seed) for seed in (0, 2, 10)]
    clip = [write_run(tmp_path / "runs" / f"clip-seed{seed}", seed=seed, epochs=9) for seed in (1, 2)]
    alone = write_run(tmp_path / "runs" / "alone", epochs=7)
    write_run(tmp_path / "runs" / "stopped", finished=False)
    killed = Path(write_run(tmp_path / "runs" / "killed", epochs=3))  # after a validation, which leaves model/
    (killed / "starts.jsonl").write_text('{"step": 0, "total": 9}\n')
    (killed / "metrics.jsonl").write_text('{"step": 5, "loss": 1}\n{"step": 9, "lo')
    assert found(tmp_path / "runs") == {"alone": (alone,), "clip": tuple(clip), "ours": tuple(ours)}
    for name in ("stopped", "killed"):
        assert f"{name} is excluded: the run is not finished" in caplog.text
    (killed / "metrics.jsonl").write_text('{"step": 9, "loss": 1}\n')
    assert found(killed) == {"killed": (str(killed),)} and "killed" in found(tmp_path / "runs")
    best = tmp_path / "runs" / "stopped" / "best"
    best.mkdir()
    (best / "config.json").write_text('{"backbone": "resnet18"}')
    assert found(tmp_path / "runs" / "stopped") == {"stopped": (str(best.parent),)}  # which fails, and not best/
    assert found(best) == {"stopped": (str(best),)}
    assert found(ours[2], alone, ours[0], ours[2]) == {"ours": (ours[2], ours[0]), "alone": (alone,)}


def test_two_runs_of_one_recipe_and_one_seed_are_two_lines(tmp_path: Path) -> None:
    old, new = (write_run(tmp_path / name, seed=3) for name in ("old", "new"))
    assert found(old, new) == {"old": (old,), "new": (new,)}


def test_models_of_one_given_name_are_one_line_whatever_they_are(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "a", seed=3), write_run(tmp_path / "b", seed=3, epochs=5)
    assert found(f"both={one}", "random", f"both={two}") == {"both": (one, two), "random": ("random",)}
    (tmp_path / "x=y").mkdir()
    assert found(tmp_path / "x=y") == {"x=y": (str(tmp_path / "x=y"),)}
    assert found(f"a=b={tmp_path / 'x=y'}", "c=d=none.pt") == {
        "a=b": (str(tmp_path / "x=y"),),
        "c=d": ("none.pt",),
    }


def test_what_has_no_architecture_of_its_own_takes_that_of_the_first_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    given = ["random", "pixels", run, "best_64.pt"]
    assert [line.like for line in lines(given)] == [run, None, None, None]
    assert {line.like for line in lines(given, like="timm:resnet18")} == {"timm:resnet18"}
    assert lines(["best_64.pt"]) == [Line("best_64", ("best_64.pt",))]


def test_names_that_are_used_twice_have_the_folder_above_before_them(tmp_path: Path) -> None:
    one, two = (write_run(tmp_path / name / "run", epochs=epochs) for name, epochs in (("a", 1), ("b", 2)))
    assert list(found(one, two)) == ["a/run", "b/run"]
    with pytest.raises(UserError, match=r"would have the same name in the table: write NAME=MODEL for each"):
        found("X=random", "x=pixels")
    with pytest.raises(UserError, match="'=random' is not a model: write MODEL or NAME=MODEL"):
        found("=random")
