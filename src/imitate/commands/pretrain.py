"""``imitate pretrain``: a recipe and a prepared folder in, a run folder with a model out."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imitate.config import Recipe, dotted, find_recipe, load_config, parse_settings, read_yaml
from imitate.names import AnyPath, Names, several

if TYPE_CHECKING:
    from imitate.data.prepared import Prepared
    from imitate.models.imitate import Imitate
    from imitate.models.types import TextEncoder
    from imitate.training.loop import Job, Validate

log = logging.getLogger(__name__)


def options(words: list[str]) -> Recipe:
    """The keys of a recipe; their defaults are those of the recipe that is named first."""
    named = words and not words[0].startswith("-") and find_recipe(Path(words[0])).is_file()
    return load_config(Recipe, Path(words[0])) if named else Recipe()


def pretrain(
    recipe: AnyPath,
    /,
    *,
    data: AnyPath,
    out: AnyPath,
    settings: Names = (),
    threads: int | None = None,
    **changes: Any,
) -> Path:
    """Pre-train on a prepared folder.

    The same command again continues an interrupted run, bit for bit where it was. The run folder holds config.yaml,
    metrics.jsonl, tensorboard/, last.ckpt, model/ (the last weights; loads without the network) and best/ (the epoch
    that retrieves best on the validation split). Every key of the recipe is a flag that changes it for one run. From
    Python::

        import imitate

        imitate.pretrain("recipes/tiny.yaml", data="data/first", out="runs/first", training={"epochs": 3})

    Args:
        recipe: YAML file; recipes/tiny.yaml and the like, where there is no such file, come with the package.
        data: prepared folder.
        out: run folder.
        settings: keys of the recipe as key=value, such as training.epochs=3; the same as --training.epochs 3.
        threads: compute threads; with another job on the machine, fewer than cores is faster.

    Returns:
        The folder of the trained model, which ``imitate.load`` reads.
    """
    from imitate.data.prepared import Prepared
    from imitate.training.engine import launch, together

    given = {**parse_settings(several(settings)), **dotted(Recipe, changes)}
    chosen = load_config(Recipe, Path(recipe), given).resolved()
    prepared, out = Prepared.open(Path(data), size=chosen.model.prepared_size), Path(out)
    fabric = launch(chosen.training, threads=threads)
    with together(fabric):
        finished = _train(fabric, chosen, prepared, out)
    if not finished:
        log.info("stopped and saved; the same command continues")
        raise KeyboardInterrupt
    log.info("finished: %s", out / "model")
    return out / "model"


def _train(fabric: Any, recipe: Recipe, data: "Prepared", out: Path) -> bool:
    """The first process makes the run folder, the others take it from there; False if a signal stopped the run."""
    from imitate.models.text import load_text_encoder, save_text_encoder
    from imitate.training.loop import fit
    from imitate.training.run_folder import claimed, room, settle

    if not fabric.is_global_zero:
        fabric.barrier()
        return fit(_job(fabric, _settled(out), data, load_text_encoder(out / "text"), out))
    with claimed(out), room(out):
        recipe, encoder = _with_text(recipe, data, out)
        job = _job(fabric, recipe, data, encoder, out)  # mistakes in the recipe show before anything is written
        settle(out, recipe, {"path": str(data.root), "fingerprint": data.meta["fingerprint"]})
        if not (out / "text" / "text.json").is_file():
            save_text_encoder(encoder, out / "text")
        fabric.barrier()
        return fit(job)


def _with_text(recipe: Recipe, data: "Prepared", out: Path) -> "tuple[Recipe, TextEncoder]":
    """The recipe completed with what the data decide, and its text encoder, after embedding all reports with it."""
    from imitate.data.text_cache import corpus, text_embeddings
    from imitate.models.text import fit_or_load, load_text_encoder

    known = (out / "text" / "text.json").is_file()
    encoder = load_text_encoder(out / "text") if known else fit_or_load(recipe.text, corpus(data))
    text_embeddings(data, encoder)
    found = {"text_width": encoder.width, "fit": data.meta["fit"]}
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=found)}), encoder


def _settled(out: Path) -> Recipe:
    values = read_yaml(out / "config.yaml", holds="this run's settings")
    values.pop("data")
    return Recipe.model_validate(values)


def _job(fabric: Any, recipe: Recipe, data: "Prepared", encoder: "TextEncoder", out: Path) -> "Job":
    from imitate.data.sampler import Order, Reader, training_rows, warm_up
    from imitate.data.text_cache import text_embeddings
    from imitate.models.imitate import parameter_count, seeded_model
    from imitate.training.loop import Job

    model = seeded_model(recipe.model, pretrained=recipe.pretrained, seed=recipe.training.seed)
    order = Order(training_rows(data), batch_size=recipe.training.batch_size, seed=recipe.training.seed)
    log.info("%.1f M trainable parameters, %d samples, %d steps an epoch", parameter_count(model) / 1e6,
             len(order.rows), order.steps_per_epoch)  # fmt: skip
    if fabric.local_rank == 0:
        warm_up(data.root / "images.npy")
    pin = fabric.device.type == "cuda"
    reader = Reader(data, text_embeddings(data, encoder), branches=recipe.model.texts, pin=pin)
    validate = _validation(data, encoder, recipe, str(fabric.device))
    return Job(fabric, recipe, model, order, reader, out, validate)


def _validation(data: "Prepared", encoder: "TextEncoder", recipe: Recipe, device: str) -> "Validate | None":
    """Retrieval on the validation split, where there is one and the objective reads text."""
    from imitate.inference.encoder import Subject
    from imitate.tasks.base import Budget
    from imitate.tasks.retrieval import Retrieval

    if recipe.objective.name == "simclr":
        return None
    if not (data.table["split"] == "val").any():
        log.warning("no validation split: the run is not validated")
        return None
    task = Retrieval()

    def validate(model: "Imitate") -> dict[str, float]:
        subject = Subject("validation", model.image, recipe.model, model=model, text=encoder)
        return task.measure(task.predict(subject, data, Budget(device=device)))

    return validate
