"""``imitate evaluate``: measure an encoder on a task, with intervals over seeds and patients."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from imitate.commands import flag
from imitate.errors import UserError
from imitate.names import AnyPath, Mode, Models, Names, several

if TYPE_CHECKING:
    from imitate.config import Config
    from imitate.tasks.base import Results


def choices() -> list[str]:
    from imitate.tasks import task_names

    return task_names()


def options(words: list[str]) -> "type[Config] | None":
    """The settings of the task that is named first, or that of the recipe."""
    from imitate.config import find_recipe, read_yaml
    from imitate.tasks import task_options

    task, recipe = words[0] if words else "", flag(words, "--recipe")
    if recipe and find_recipe(Path(recipe)).is_file():
        task = read_yaml(find_recipe(Path(recipe)), holds="a task and its settings").get("task", task)
    return task_options(task) if task in choices() else None


def configured(task: str | None = None, /, *, settings: Names = (), **options: Any) -> dict[str, Any]:
    """The task with all its settings, as a recipe of it would have them."""
    from imitate.config import parse_settings, validate
    from imitate.tasks import task_options

    if task is None:
        raise UserError("--print-config: name the task first; imitate recipes show RECIPE prints a recipe")
    given = {**parse_settings(several(settings)), **options}
    return {"task": task, "settings": validate(task_options(task), given, where=task).model_dump(mode="json")}


def evaluate(
    task: str | None = None,
    /,
    *,
    model: Models,
    data: AnyPath,
    out: AnyPath,
    recipe: AnyPath | None = None,
    test_data: AnyPath | None = None,
    beside: Models = (),
    like: str | None = None,
    fraction: float | None = None,
    seeds: int = 1,
    mode: Mode | None = None,
    name: str | None = None,
    settings: Names = (),
    sweep: Names = (),
    resamples: int = 1000,
    device: str = "auto",
    cache: AnyPath | None = None,
    **options: Any,
) -> "Results":
    """Evaluate an encoder on a task, with intervals over seeds and patients.

    The task comes first; its own settings are flags too: `imitate evaluate TASK --help` lists them. From Python::

        results = imitate.evaluate("retrieval", model="runs/first", data="data/first", out="retrieval.json")
        results.metrics["mean-recall"].value  # of ``model``, at the largest fraction

    Args:
        task: The task.
        model: Runs of one recipe, an encoder or weights file, random, imagenet, timm:NAME, hf-hub:OWNER/NAME@REVISION.
        data: The prepared folder.
        out: Results file, .json; predictions go to a .npz next to it. The same command resumes and keeps what is done.
        recipe: A recipe of a published table, instead of the task: recipes/downstream/*.yaml or recipes/benchx/*.yaml.
        test_data: Another prepared folder to test on, such as another hospital's; classes are matched by name.
        beside: Further models, each with its own results file, such as the baselines of a probe: random pixels.
        like: A run, recipe or timm:NAME that gives the architecture of random, imagenet or a weights file.
        fraction: Fraction of the training patients to use; default: all, or those of the recipe. Fractions are nested.
        seeds: Number of fits of each model, with different seeds.
        mode: clean, the default, or paper for the protocol of the published tables.
        name: Name of this method in tables.
        settings: Settings of the task as key=value, for a task that a recipe names.
        sweep: Settings to try, such as learning_rate=[1e-5,1e-4]; the best on the validation images is used.
        resamples: Number of bootstrap samples for each interval.
        device: cpu, cuda, cuda:1, ...; auto takes a GPU if there is one.
        cache: Folder for features and subset lists that other evaluations can reuse.
    """
    models, plain = (tuple(map(str, several(each))) for each in (model, beside))
    _check_task(task, models)
    from imitate.config import parse_settings
    from imitate.config.loading import parse_lists
    from imitate.tasks.measuring import Request, measure

    file, other, kept = (None if each is None else Path(each) for each in (recipe, test_data, cache))
    chosen, tried = {**parse_settings(several(settings)), **options}, parse_lists(several(sweep))
    request = Request(task, file, mode, fraction, chosen, models, plain, like, name, seeds, tried)
    return measure(
        request, data=Path(data), out=Path(out), resamples=resamples, device=device, cache=kept, test_data=other
    )


def _check_task(task: str | None, models: tuple[str, ...]) -> None:
    """``--model A B TASK`` takes the task for a model."""
    for each in models:
        if task is None and each in choices() and not Path(each).exists():
            raise UserError(f"{each} is a task, not a model: put it first: imitate evaluate {each} ...")
