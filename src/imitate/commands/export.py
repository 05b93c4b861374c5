"""``imitate export``: a trained model for others."""

from typing import Literal

from imitate.errors import UserError
from imitate.names import AnyPath, Branch, Names, several


def export(
    *,
    model: str,
    to: AnyPath,
    format: Literal["hub", "timm", "onnx"] = "hub",
    license: str = "other",
    audit: AnyPath | None = None,
    prompts: Names = (),
    branch: Branch = "both",
    int8: AnyPath | None = None,
) -> None:
    """Write a model for others: all of it for the hub or in ONNX, or its image encoder for timm and torchvision.

    Args:
        model: A run folder, a model folder within it, an exported folder or hf-hub:OWNER/NAME@REVISION.
        to: The folder to write, new or empty.
        format: hub: weights, config.json, text encoder and model card. timm: the weights of the image encoder.
            onnx: graphs and arrays that need no PyTorch.
        license: License of the weights, for the card, such as cc-by-nc-4.0; the training data may restrict it.
        audit: What `imitate audit` wrote of this model, for the section on groups of patients of the card.
        prompts: onnx: The classes of a classifier, as in imitate predict; default: those of calibration.json, if any.
        branch: onnx: What the classifier compares with: findings, impression or both.
        int8: onnx: A prepared folder, on whose training images the image side is quantised to 8 bits.
    """
    from pathlib import Path

    if format == "onnx":
        from imitate.inference.onnx_export import export_onnx
        from imitate.inference.prompts import parse_prompts

        if audit is not None:
            raise UserError("--audit: only --format hub writes a model card")
        words, data = parse_prompts(several(prompts)), None if int8 is None else Path(int8)
        export_onnx(model, Path(to), prompts=words, branch=branch, license=license, int8=data)
        return
    if several(prompts) or branch != "both" or int8 is not None:
        raise UserError("--prompts, --branch and --int8: only --format onnx takes them")

    from imitate.inference.export import Groups, export_model

    if audit is None:
        export_model(model, Path(to), format=format, license=license)
        return
    from imitate.report.audit import card
    from imitate.tasks.audit_model import read_audit

    found = read_audit(Path(audit))
    export_model(model, Path(to), format=format, license=license, groups=Groups(card(found), found.weights))
