"""``imitate predict``: the results of a Predictor as tables, arrays and pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from imitate.commands import engine
from imitate.errors import UserError
from imitate.names import AnyPath, Backend, Branch, Language, Names, Paths, several

if TYPE_CHECKING:
    from imitate.data.writer import Engine


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
    language: Language | None = None,
    calibration: AnyPath | None = None,
    decide: bool = False,
    out: str = "-",
    device: str = "auto",
    backend: Backend | None = None,
    workers: int | None = None,
    part: str = "1/1",
    cluster: str | None = None,
) -> None:
    """Classify or embed images, find the nearest reports of an image or images of a text, or compute a heat-map.

    Unusable images are excluded with a warning. If --out is a folder, classify and embed write Parquet files of 1,024
    images; to resume, run the same command again. Not a medical device.

    Args:
        action: classify by prompts, retrieve the nearest reports or images, heatmap of a text, or embed as vectors.
        model: A run, an exported folder (or ONNX), hf-hub:OWNER/NAME@REVISION or a published encoder (imitate models).
        images: DICOM, PNG or JPEG files, or folders of them.
        data: classify, embed: A prepared folder, instead of --images.
        text: retrieve, heatmap, embed: Sentences in the style of a report.
        prompts: classify: 'Class=positive|negative' or 'Class=phrase', or a YAML file; default: built-in classes.
        index: retrieve: The prepared folder to search.
        k: retrieve: Number of results for each query.
        branch: findings compares with the Findings section of reports, impression with their Impression.
        temperature: classify: Temperature of the softmax over both prompts, uncalibrated; default: the model's.
        language: classify: Language of the built-in prompts and of the sentences around a phrase; default: the model's.
        calibration: classify: A file of imitate calibrate; default: calibration.json beside the weights, if any.
        decide: classify: Also show which images reach the threshold of each class that imitate calibrate has chosen.
        out: .csv, .json (heatmap: .png, .npy; embed: .npy, .npz, .csv), a folder (not retrieve), - (standard output).
        device: cpu, cuda, ...; auto uses a GPU if there is one.
        backend: onnx or torch; default: onnx for a folder of `imitate export --format onnx`, otherwise torch.
        workers: With a folder as --out: number of decoding processes; default: one for each core, fewer for few images.
        part: With a folder as --out: i/n for the i-th of n jobs that share the work.
        cluster: With a folder as --out: address of a Dask scheduler whose workers decode and compute.
    """
    _check(action, model, backend, calibrated=decide or calibration is not None)
    files, ways = tuple(map(Path, several(images))), (workers, part, cluster)
    if _in_parts(action, files, data, str(out), plain=ways == (None, "1/1", None)):
        more: dict[str, Any] = {"temperature": temperature, "device": device, "decide": decide, "language": language}
        more |= {"calibration": calibration and str(calibration), "prompts": several(prompts)}
        return _write_parts((action, model, branch), files, data, several(text), Path(out), engine(*ways), more)
    from imitate.inference.tables import Request, respond

    at, kept = (Path(each) if each else None for each in (index, calibration))
    words = files, several(text), several(prompts), at, k, branch, temperature, str(out), kept, decide, language
    respond(action, Request(*words), model=model, device=device)


def _check(action: str, model: str, backend: Backend | None, *, calibrated: bool) -> None:
    """UserError where an option does not fit the action or the model."""
    if action != "classify" and calibrated:
        raise UserError("--calibration and --decide: only classify accepts them")
    if backend is not None:
        from imitate.inference.opening import check_backend

        check_backend(model, backend)


def _write_parts(
    what: tuple[Any, str, Branch],
    files: tuple[Path, ...],
    data: AnyPath | None,
    texts: tuple[str, ...],
    out: Path,
    engine: "Engine",
    given: dict[str, Any],
) -> None:
    """``what`` is the action, the model and the branch; ``given`` are further fields of the question."""
    from imitate.inference.bulk import Question, predict_in_parts
    from imitate.inference.prompts import parse_prompts

    if texts or len(files) > 1 or (files and data is not None):
        raise UserError(f"--out {out} is a folder: give {what[0]} either one folder as --images, or --data")
    question = Question(*what, **{**given, "prompts": parse_prompts(given["prompts"])})
    source = {"images": files[0]} if files else {"data": Path(data or "")}
    predict_in_parts(question, out, engine=engine, **source)


def _in_parts(action: str, files: tuple[Path, ...], data: AnyPath | None, out: str, *, plain: bool) -> bool:
    """Whether to write a folder of Parquet files. UserError: flags that belong to one, without it."""
    folder = out != "-" and (Path(out).is_dir() or not Path(out).suffix)
    if action in ("classify", "embed") and folder and (files or data is not None):
        return True
    if data is not None or not plain:
        flag = "--data" if data is not None else "--workers, --part or --cluster"
        raise UserError(f"{flag}: only classify and embed accept it, if --out is a folder (a name without suffix)")
    return False
