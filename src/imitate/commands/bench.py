"""``imitate bench``: many models over many tasks and data sets, in one table."""

from pathlib import Path

from imitate.names import AnyPath, Models, Names, Paths, several


def bench(
    models: Models,
    /,
    *,
    data: Paths,
    tasks: Names,
    out: AnyPath,
    fractions: tuple[float, ...] = (),
    seeds: int = 1,
    like: str | None = None,
    settings: Names = (),
    reference: str | None = None,
    resamples: int = 1000,
    device: str = "auto",
) -> Path:
    """Evaluate every model on every task and data set, and write one page with a table of all results.

    Run the same command again to measure only what is missing, or depends on settings, weights, data or code that
    have changed. A cell that fails is listed on the page, and the others are still measured; the exit code is then 2.

    Args:
        models: As for imitate evaluate; a folder of runs stands for all of them. Runs whose recipes differ only in
            the seed are one method of the table, as are models with the same NAME in NAME=MODEL.
        data: The prepared folders. A dash marks a task for which a folder or a model lacks something.
        tasks: Tasks, or recipes such as recipes/downstream/rsna_linear.yaml.
        out: Folder for the results, bench.html and results.csv.
        fractions: Fractions of the training patients, such as 0.01 0.1 1; by default all patients, or the recipe's.
        seeds: Number of fits of each model, with different seeds.
        like: A run, recipe or timm:NAME that gives the architecture of random, imagenet or a weights file; for
            random and imagenet, the first run by default.
        settings: Settings of the tasks: key=value for every task that has the key, task.key=value for one task.
        reference: The model with which the paired tests compare the others; by default the first.
        resamples: Number of bootstrap samples for each interval and test.
        device: cpu, cuda, cuda:1, ...; auto takes a GPU if there is one.
    """
    from imitate.bench.run import Asked, run

    words = [str(each) for each in several(models)]
    asked = Asked(
        words,
        [Path(each) for each in several(data)],
        several(tasks),
        fractions,
        seeds,
        like,
        several(settings),
        reference,
        resamples,
        device,
    )
    return run(asked, Path(out))
