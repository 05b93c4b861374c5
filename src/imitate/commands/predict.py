"""``imitate predict``: what a Predictor says, as tables, arrays and pictures."""

from pathlib import Path
from typing import Literal

from imitate.commands import engine
from imitate.errors import UserError
from imitate.names import AnyPath, Branch, Names, Paths, several


def predict(
    action: Literal["classify", "retrieve", "heatmap", "embed"],
    /,
    *,
    model: str,
    images: Paths = (),
    data: AnyPath | None = None,
    text: Names = (),
    prompts: Names = (),
    index: AnyPath | None = None,
    k: int = 5,
    branch: Branch = "both",
    temperature: float | None = None,
    out: str = "-",
    device: str = "auto",
    workers: int | None = None,
    part: str = "1/1",
    cluster: str | None = None,
) -> None:
    """Classify images, find their nearest reports or images of a text, show where a similarity comes from, embed.

    An unusable image is excluded with a warning. Where --out is a folder, classify and embed write Parquet files of
    1,024 images each, in which it has a row with the reason; the same command again continues. Not a medical device.

    Args:
        action: What to do.
        model: A run folder, an exported folder or hf-hub:OWNER/NAME@REVISION.
        images: DICOM, PNG or JPEG files, or folders of them.
        data: classify, embed: A prepared folder, in place of --images.
        text: Sentences as a report has them: to retrieve images of, to map, to embed.
        prompts: classify: 'Class=positive|negative' or 'Class=phrase' each, or a YAML file; default: built-in classes.
        index: retrieve: The prepared folder to search.
        k: retrieve: How many to find for each query.
        branch: Compare with what reports describe (findings), conclude (impression), or both.
        temperature: classify: Of the softmax over positive and negative prompts; by default the model's own.
        out: .csv or .json; heatmap: .png, .npy or a folder; embed: .npy, .npz, .csv; classify, embed: a folder; or -.
        device: cpu, cuda, ...; auto takes a GPU if there is one.
        workers: Processes that decode, where --out is a folder; by default one a core, fewer for a few images.
        part: i/n writes every n-th file of a folder --out only, from the i-th on, as one of n jobs that share it.
        cluster: Address of a Dask scheduler, whose workers decode and compute; --out is a folder.
    """
    files = tuple(map(Path, several(images)))
    if _in_parts(action, files, data, str(out), plain=(workers, part, cluster) == (None, "1/1", None)):
        from imitate.inference.bulk import Question, predict_in_parts
        from imitate.inference.prompts import parse_prompts

        assert action in ("classify", "embed")
        if several(text) or len(files) > 1 or (files and data is not None):
            raise UserError(f"--out {out} is a folder: {action} then wants one folder as --images, or --data, alone")
        question = Question(action, model, branch, parse_prompts(several(prompts)), temperature, device)
        source = {"images": files[0]} if files else {"data": Path(data or "")}
        predict_in_parts(question, Path(out), engine=engine(workers, part, cluster), **source)
        return
    from imitate.inference.tables import Request, respond

    searched = Path(index) if index else None
    request = Request(files, several(text), several(prompts), searched, k, branch, temperature, str(out))
    respond(action, request, model=model, device=device)


def _in_parts(action: str, files: tuple[Path, ...], data: AnyPath | None, out: str, *, plain: bool) -> bool:
    """Whether to write a folder of Parquet files. UserError: flags that belong to one, without it."""
    folder = out != "-" and (Path(out).is_dir() or not Path(out).suffix)
    if action in ("classify", "embed") and folder and (files or data is not None):
        return True
    if data is not None or not plain:
        flag = "--data" if data is not None else "--workers, --part or --cluster"
        raise UserError(f"{flag}: only classify and embed take it, with a folder (a name without a suffix) as --out")
    return False
