"""``imitate import``: checkpoints of other code as folders that hold nothing but tensors."""

from imitate.names import AnyPath


def import_model(checkpoint: AnyPath, /, *, out: AnyPath, text: str | None = None, size: int | None = None) -> None:
    """Convert a checkpoint of a published encoder to a folder that all other commands accept.

    Pickled files are read without running any code in them. A released checkpoint of IMITATE becomes a run folder, an
    encoder of another group a folder with its tensors (safetensors); imitate models lists what can be read.

    Args:
        checkpoint: The file; for IMITATE, the state dict of the model, or of its encoder in torchvision's format.
        out: The folder to create.
        text: For IMITATE, its text encoder, hf:ID@REVISION; for another encoder, the folder with its vocabulary (for
            MedKLIP, with the ClinicalBERT of its queries).
        size: Image size of the encoder, if its tensors do not determine it: 1024 for KAD-1024.
    """
    from pathlib import Path

    from imitate.inference.importing import import_checkpoint

    import_checkpoint(Path(checkpoint), Path(out), text=text, size=size)
