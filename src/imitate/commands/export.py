"""``imitate export``: a trained model for others."""

from typing import Literal

from imitate.errors import UserError
from imitate.names import AnyPath, Branch, Names, several


def export(
    *,
    model: str,
    to: AnyPath,
    format: Literal["safetensors", "onnx"] = "safetensors",
    license: str = "other",
    audit: AnyPath | None = None,
    images_only: bool = False,
    prompts: Names = (),
    branch: Branch = "both",
    int8: AnyPath | None = None,
) -> None:
    """Write a model as a folder that can be shared; nothing is uploaded.

    Args:
        model: A run folder, a model folder within it, an exported folder or hf-hub:OWNER/NAME@REVISION.
        to: The folder to write, new or empty.
        format: safetensors: weights that imitate, timm and transformers load, and a model card. onnx: graphs and arrays
            that need no PyTorch.
        license: License of the weights, such as cc-by-nc-4.0, for the model card; the training data may restrict it.
        audit: Results of `imitate audit` for this model, for the section of the model card on groups of patients.
        images_only: Omit the text encoder, and with it all words of the training reports.
        prompts: onnx: The classes of a classifier, as in imitate predict; default: those of calibration.json, if any.
        branch: onnx: The branch of the classifier: findings, impression or both.
        int8: onnx: Quantise the image encoder to 8 bits, with training images of this prepared folder.
    """
    from pathlib import Path

    if format == "onnx":
        from imitate.inference.onnx_export import export_onnx
        from imitate.inference.prompts import parse_prompts

        if audit is not None:
            raise UserError("--audit: only --format safetensors writes a model card")
        words, data = parse_prompts(several(prompts)), None if int8 is None else Path(int8)
        export_onnx(model, Path(to), prompts=words, branch=branch, license=license, images_only=images_only, int8=data)
        return
    if several(prompts) or branch != "both" or int8 is not None:
        raise UserError("--prompts, --branch and --int8: only --format onnx accepts them")

    from imitate.inference.export import Groups, export_model

    groups = None
    if audit is not None:
        from imitate.report.audit import card
        from imitate.tasks.audit_model import read_audit

        found = read_audit(Path(audit))
        groups = Groups(card(found), found.weights)
    export_model(model, Path(to), license=license, images_only=images_only, groups=groups)
