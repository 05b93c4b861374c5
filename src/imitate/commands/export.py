"""``imitate export``: a trained model for others."""

from typing import Literal

from imitate.names import AnyPath


def export(
    *,
    model: str,
    to: AnyPath,
    format: Literal["hub", "timm"] = "hub",
    license: str = "other",
    audit: AnyPath | None = None,
) -> None:
    """Write a model for others: all of it for the hub, or its image encoder for timm and torchvision.

    Args:
        model: A run folder, a model folder within it, an exported folder or hf-hub:OWNER/NAME@REVISION.
        to: The folder to write, new or empty.
        format: hub: weights, config.json, text encoder and model card. timm: the weights of the image encoder.
        license: License of the weights, for the card, such as cc-by-nc-4.0; the training data may restrict it.
        audit: What `imitate audit` wrote of this model, for the section on groups of patients of the card.
    """
    from pathlib import Path

    from imitate.inference.export import Groups, export_model

    if audit is None:
        export_model(model, Path(to), format=format, license=license)
        return
    from imitate.report.audit import card
    from imitate.tasks.audit_model import read_audit

    found = read_audit(Path(audit))
    export_model(model, Path(to), format=format, license=license, groups=Groups(card(found), found.weights))
