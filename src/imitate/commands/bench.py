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
    """Measure every model on every task and data set, and write one page with a table of them all.

    What is there, of the same command, weights, data and code, is not measured again: started again, the command
    continues after a stop or a kill. A cell that fails is said on the page and does not end the others; the exit code
    is 2 then.

    Args:
        models: As for imitate evaluate, each a line of the table; a folder of runs stands for all of them. Runs of one
            recipe that differ in the seed are one line, as are models of one NAME in NAME=MODEL.
        data: The prepared folders. What a folder or a model lacks for a task is a dash with the reason.
        tasks: Tasks, or recipes such as recipes/downstream/rsna_linear.yaml.
        out: Folder for the results, bench.html and results.csv.
        fractions: Fractions of the training patients, such as 0.01 0.1 1; by default all patients, or the recipe's.
        seeds: How often to fit each model.
        like: A run, recipe or timm:NAME that gives the architecture of random, imagenet or a weights file; by default
            of random and imagenet the first run.
        settings: The tasks' own settings: key=value for each task that has the key, task.key=value for one.
        reference: The line that the paired tests compare the others with; by default the first.
        resamples: Bootstrap samples behind each interval and test.
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
