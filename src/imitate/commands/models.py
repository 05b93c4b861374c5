"""``imitate models``: which published encoders can be read, and what a file is."""

from imitate.names import AnyPath


def models(file: AnyPath | None = None, /, *, selftest: bool = False) -> None:
    """List the published encoders that can be read, or say what a file or folder is.

    Args:
        file: A checkpoint or a folder; by default, all encoders are listed.
        selftest: Compute vectors of six synthetic images and six sentences, to compare with the authors' code.
    """
    from pathlib import Path

    from imitate.inference.about import describe, families

    if file is None:
        families()
    else:
        describe(Path(file), selftest=selftest)
