"""``imitate push``: upload an exported model."""

from typing import Annotated

from tyro.conf import arg

from imitate.names import AnyPath

Repository = Annotated[str, arg(metavar="OWNER/NAME")]


def push(folder: AnyPath, repository: Repository, /, *, with_vocabulary: bool = False, public: bool = False) -> None:
    """Upload a folder that `imitate export` wrote to the Hugging Face hub; run it again to upload changes.

    The command first lists the files to upload, their sizes, and what in them derives from reports. A new
    repository is private. Log in with `hf auth login` first.

    Args:
        folder: The exported folder.
        repository: The repository on the Hugging Face hub.
        with_vocabulary: Also upload an lsa or bert-small text encoder, which contains words of the training reports.
        public: Upload to a public repository; a new repository then becomes public.
    """
    from pathlib import Path

    from imitate.inference.push import push_folder

    push_folder(Path(folder), repository, with_vocabulary=with_vocabulary, public=public)
