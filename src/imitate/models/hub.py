"""The one door to the Hugging Face hub: fetch a model, push one."""

import re
from pathlib import Path

from imitate.errors import UserError

FILES = ["*.json", "*.safetensors", "*.txt", "*.md"]  # nothing that would need unpickling
_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def local_folder(source: Path | str, *, revision: str | None = None) -> Path:
    """A folder as it is; the files of a hub id (owner/name), which are fetched once and then found without the network.

    A string is a hub id where no such file or folder exists. UserError where the hub cannot give it.
    """
    if isinstance(source, Path) or Path(source).exists() or not _ID.fullmatch(source):
        return Path(source)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=FILES))
    except (OSError, ValueError) as error:
        raise UserError(
            f"no folder {source} here, and the hub does not give {source}@{revision or 'main'} "
            f"({type(error).__name__}): check the name, or without the network give a folder"
        ) from error


def push(folder: Path, repository: str) -> str:
    """Upload a folder; a repository that does not exist yet is created private. Returns its address."""
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        url = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder)
    except Exception as error:  # of the hub and of the network: they have no common base
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"cannot push to {repository}: {reason[0][:200]}; log in with `hf auth login`") from error
    return str(url)
