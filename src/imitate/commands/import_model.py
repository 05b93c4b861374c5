"""``imitate import``: checkpoints of other code as folders that hold nothing but tensors."""

from imitate.names import AnyPath


def import_model(checkpoint: AnyPath, /, *, out: AnyPath, text: str | None = None, size: int | None = None) -> None:
    """Convert a checkpoint of a published encoder to a folder that all other commands accept.

    Pickled files are read without running anything of them. A released checkpoint of IMITATE becomes a run folder, an
    encoder of another group safetensors with its authors' names; imitate models lists what can be read.

    Args:
        checkpoint: The file. Of IMITATE the state dict of the model, or of its encoder with torchvision's names.
        out: The folder to create.
        text: Of IMITATE its text encoder, hf:ID@REVISION; of another encoder the folder of its vocabulary, and of the
            BERT that MedKLIP asks with.
        size: Side of the images that the encoder was made for, where its tensors do not say so: 1024 of KAD-1024.
    """
    from pathlib import Path

    from imitate.inference.importing import import_checkpoint

    import_checkpoint(Path(checkpoint), Path(out), text=text, size=size)
