"""``imitate export``: a trained model as others load it."""

from typing import Literal

from imitate.names import AnyPath


def export(
    *,
    model: str,
    to: AnyPath,
    format: Literal["hub", "timm"] = "hub",
    license: str = "other",
) -> None:
    """Write a model for others: whole for the hub, or its image encoder for timm and torchvision.

    Args:
        model: A run folder, a model folder within it, an exported folder or hf-hub:OWNER/NAME@REVISION.
        to: The folder to write, new or empty.
        format: hub is safetensors, config.json, text encoder and model card; timm is the image encoder's weights.
        license: Of the weights, for the card, such as apache-2.0 or cc-by-nc-4.0; the data may bind it.
    """
    from pathlib import Path

    from imitate.inference.export import export_model

    export_model(model, Path(to), format=format, license=license)
