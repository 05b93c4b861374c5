"""``imitate push``: an exported model onto the hub."""

from imitate.names import AnyPath


def push(folder: AnyPath, repository: str, /, *, with_vocabulary: bool = False, public: bool = False) -> None:
    """Upload a folder that `imitate export` wrote; the same command again uploads what has changed.

    A new repository is private. Log in with `hf auth login` first.

    Args:
        folder: What to upload.
        repository: Of the Hugging Face hub, OWNER/NAME.
        with_vocabulary: Upload words of the training reports too, which an lsa text encoder holds.
        public: Let everybody read it, also where the repository is public already.
    """
    from pathlib import Path

    from imitate.inference.export import push_folder

    push_folder(Path(folder), repository, with_vocabulary=with_vocabulary, public=public)
