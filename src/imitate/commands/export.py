"""``imitate export``: a trained model for others."""

from imitate.names import AnyPath


def export(
    *,
    model: str,
    to: AnyPath,
    license: str = "other",
    audit: AnyPath | None = None,
    images_only: bool = False,
) -> None:
    """Write a model as a folder that imitate, timm and transformers load, with a model card; nothing is uploaded.

    Args:
        model: A run folder, a model folder within it, an exported folder or hf-hub:OWNER/NAME@REVISION.
        to: The folder to write, new or empty.
        license: License of the weights, for the card, such as cc-by-nc-4.0; the training data may restrict it.
        audit: What `imitate audit` wrote of this model, for the section on groups of patients of the card.
        images_only: Leave out the text encoder, and with it all words of the training reports.
    """
    from pathlib import Path

    from imitate.inference.export import Groups, export_model

    groups = None
    if audit is not None:
        from imitate.report.audit import card
        from imitate.tasks.audit_model import read_audit

        found = read_audit(Path(audit))
        groups = Groups(card(found), found.weights)
    export_model(model, Path(to), license=license, images_only=images_only, groups=groups)
