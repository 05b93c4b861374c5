"""``imitate pretrain``: a recipe and a prepared folder in, a run folder with a model out."""

from pathlib import Path
from typing import Any

from imitate.config import Recipe, dotted, find_recipe, load_config, parse_settings
from imitate.names import AnyPath, Names, Paths, Tracker, several


def options(words: list[str]) -> Recipe:
    """The keys of a recipe; their defaults are those of the recipe that is named first."""
    named = words and not words[0].startswith("-") and find_recipe(Path(words[0])).is_file()
    return load_config(Recipe, Path(words[0])) if named else Recipe()


def configured(
    recipe: AnyPath, /, *, settings: Names = (), continue_with: Names = (), **changes: Any
) -> dict[str, Any]:
    """The whole recipe, as a file of it would have it."""
    return _chosen(recipe, settings, continue_with, changes)[0].model_dump(mode="json")


def _chosen(
    recipe: AnyPath, settings: Names, continue_with: Names, changes: dict[str, Any]
) -> tuple[Recipe, dict[str, Any]]:
    """The recipe with all changes, and those with which a run continues."""
    continued = parse_settings(several(continue_with))
    given = {**parse_settings(several(settings)), **dotted(Recipe, changes), **continued}
    return load_config(Recipe, Path(recipe), given), continued


def pretrain(
    recipe: AnyPath,
    /,
    *,
    data: Paths,
    out: AnyPath,
    weights: tuple[float, ...] = (),
    settings: Names = (),
    continue_with: Names = (),
    cache: AnyPath | None = None,
    threads: int | None = None,
    log: tuple[Tracker, ...] = ("tensorboard",),
    **changes: Any,
) -> Path:
    """Pre-train on one or several prepared folders.

    To resume an interrupted run, use the same command: the result is the same bit for bit on a CPU or with
    training.deterministic, and up to rounding on GPUs otherwise. The run folder holds config.yaml, starts.jsonl (time,
    device, precision and versions of each start), init.json (which weights were taken from --init), metrics.jsonl,
    tensorboard/, last.ckpt, model/ (the last weights, which load without a network) and best/ (those with the best
    retrieval on validation). Every key of the recipe is a flag that changes it for one run. From Python::

        import imitate

        imitate.pretrain("recipes/tiny.yaml", data="data/first", out="runs/first", training={"epochs": 3})

    Args:
        recipe: YAML file, or a recipe that comes with the package, such as recipes/tiny.yaml.
        data: prepared folders, all with the same size and resize rule.
        out: run folder.
        weights: relative number of samples of each folder in an epoch, such as 1 .5 2; default: their sizes in images.
        settings: keys of the recipe as key=value, such as training.epochs=3; the same as --training.epochs 3.
        continue_with: keys of training, as in settings, to change when an interrupted run is resumed, such as
            training.learning_rate=1e-5 after a loss that was not finite.
        cache: folder for embeddings of reports, to share between runs; default: OUT/text_cache.
        threads: compute threads; if other jobs run on the machine, fewer threads than cores are faster.
        log: where to record metrics, besides metrics.jsonl: tensorboard, csv, wandb, mlflow. The last two send the
            recipe and the metrics to their service; otherwise nothing is sent.

    Returns:
        The folder of the trained model, which ``imitate.load`` reads.
    """
    from imitate.tasks.pretraining import run
    from imitate.training.watching import stoppable

    chosen, continued = _chosen(recipe, settings, continue_with, changes)
    folders = tuple(map(Path, several(data)))
    keep = None if cache is None else Path(cache)
    with stoppable(Path(out)):
        return run(
            chosen,
            data=folders,
            out=Path(out),
            weights=tuple(weights),
            cache=keep,
            threads=threads,
            changes=continued.keys(),
            log_to=log,
        )
