"""``imitate predict``: what a Predictor says, as tables, arrays and pictures."""

from pathlib import Path
from typing import Literal

from imitate.names import AnyPath, Branch, Names, Paths, several


def predict(
    action: Literal["classify", "retrieve", "heatmap", "embed"],
    /,
    *,
    model: str,
    images: Paths = (),
    text: Names = (),
    prompts: Names = (),
    index: AnyPath | None = None,
    k: int = 5,
    branch: Branch = "both",
    temperature: float | None = None,
    out: str = "-",
    device: str = "auto",
    revision: str | None = None,
) -> None:
    """Classify images, find their nearest reports or images of a text, show where a similarity comes from, embed.

    An image that cannot be used is excluded with a warning. Research software, not a medical device.

    Args:
        action: What to do.
        model: A run folder, an exported folder or a hub id.
        images: DICOM, PNG or JPEG files, or folders of them.
        text: Sentences as a report has them: to retrieve images of, to map, to embed.
        prompts: classify: 'Class=positive|negative' or 'Class=phrase' each, or a YAML file; default: built-in classes.
        index: retrieve: The prepared folder to search.
        k: retrieve: How many to find for each query.
        branch: Compare with what reports describe (findings), conclude (impression), or both.
        temperature: classify: Of the softmax over positive and negative prompts; by default the model's own.
        out: .csv or .json; heatmap: .png, .npy, or a folder for several; embed: .npy, .npz, .csv. - is standard output.
        device: cpu, cuda, ...; auto takes a GPU if there is one.
        revision: Of a hub id.
    """
    from imitate.inference.tables import Request, respond

    files = tuple(map(Path, several(images)))
    folder = None if index is None else Path(index)
    request = Request(files, several(text), several(prompts), folder, k, branch, temperature, str(out))
    respond(action, request, model=model, device=device, revision=revision)
