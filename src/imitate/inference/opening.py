"""Which code computes a model: what lies in its folder decides."""

from pathlib import Path

from imitate.errors import UserError, missing_extra
from imitate.inference.base import BaseEncoder
from imitate.models.hub import ONNX_ONLY, is_onnx, is_ours, local_folder
from imitate.names import Backend


def open_encoder(path: Path, *, name: str, device: str) -> tuple[BaseEncoder, str]:
    """The encoder, and the device to use, where ``device`` may be auto. An ONNX folder needs no torch."""
    if is_onnx(path):
        from imitate.inference.onnx import OnnxEncoder

        encoder = OnnxEncoder(path, name=name, device=device)
        return encoder, encoder.device
    try:
        from imitate.inference.encoder import choose_device, load_folder
        from imitate.inference.peer import load_peer
    except ModuleNotFoundError as error:
        raise missing_extra(error, ", or give a folder of `imitate export --format onnx`") or error from None

    found = (None if is_ours(path) else load_peer(path, name=name)) or load_folder(path, name=name)
    return found, choose_device(device)


def of_torch(path: Path) -> Path:
    """The same path. UserError: what lies there is in ONNX."""
    if is_onnx(path):
        raise UserError(f"{path} {ONNX_ONLY}")
    return path


def check_backend(model: str, backend: Backend | None) -> None:
    """UserError: what lies at ``model`` is not computed by ``backend``."""
    if backend is None:
        return
    onnx = is_onnx(local_folder(model))
    if backend == "onnx" and not onnx:
        raise UserError(
            f"{model} has no ONNX files: write them with `imitate export --model {model} --format onnx --to FOLDER`, "
            "and give FOLDER as --model"
        )
    if backend == "torch" and onnx:
        raise UserError(f"{model} has ONNX files only: omit --backend torch, or give the run that was exported")
