"""``imitate models``: which published encoders can be read, and what a file is."""

from imitate.names import AnyPath


def models(file: AnyPath | None = None, /, *, selftest: bool = False) -> None:
    """List the published encoders that can be read, or identify a file or folder.

    Args:
        file: A checkpoint or a folder; by default, all encoders are listed.
        selftest: Embed six synthetic images and six sentences, to compare the vectors with those of the authors' code.
    """
    from pathlib import Path

    from imitate.inference.about import describe, families

    if file is None:
        families()
    else:
        describe(Path(file), selftest=selftest)
