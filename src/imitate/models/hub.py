"""Fetches models from the Hugging Face hub and pushes them; no other module uses its client."""

import json
import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from imitate.config.digests import check_record
from imitate.config.files import read_json
from imitate.errors import UserError

log = logging.getLogger(__name__)
HUB = "hf-hub:"
ONNX_ONLY = "is an ONNX model, which only predict and serve accept: give the run that was exported"
CARD, WEIGHTS = "README.md", "model.safetensors"
HEADS = "heads.safetensors"
"""Of an exported model what is not its image encoder, whose file of weights has the names of timm (``exported``)."""
OWN = "imitate"  # the key of our settings in the config.json of an exported model
# Nothing that would need unpickling
FILES = ["*.json", "*.safetensors", "*.onnx", "*.onnx.data", "*.npz", "*.txt", "*.md", "spiece.model"]
_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
CLIENTS = ("httpx", "httpx2", "huggingface_hub")  # loggers: one line for each request
_SECONDS = 10.0  # until the hub counts as absent


def local_folder(source: Path | str) -> Path:
    """A folder as it is; of ``hf-hub:OWNER/NAME@REVISION`` the files, which are fetched once. Nothing else is asked of
    the hub: a path that is misspelt does not leave this machine. UserError: there is no such folder.
    """
    if isinstance(source, str) and source.startswith(HUB):
        return _fetched(*split_id(source))
    if not Path(source).exists():
        hint = (
            f"; a repository of the hub is {HUB}{source}" if isinstance(source, str) and _ID.fullmatch(source) else ""
        )
        raise UserError(f"no model at {source}: there is no such folder{hint}")
    return Path(source)


def is_ours(path: Path) -> bool:
    """Whether a folder is a run, or holds a model that ``Imitate.save`` wrote."""
    config = path / "config.json"
    own = config.is_file() and '"backbone"' in config.read_text(encoding="utf-8", errors="replace")
    return path.is_dir() and ((path / "model").is_dir() or own)


def is_onnx(path: Path) -> bool:
    """Whether it is a folder that ``imitate export --format onnx`` wrote."""
    return any((path / name).is_file() for name in ("image.onnx", "imitate.json"))


def check_whole(folder: Path) -> int:
    """How many files of weights a model's folder has. UserError: one is cut short, or a part of an export is absent.

    The header of a file of weights says how long it is.
    """
    from safetensors import SafetensorError, safe_open

    weights = [*sorted(folder.glob("*.safetensors")), *sorted(folder.glob("*/*.safetensors"))]
    for path in weights:
        try:
            with safe_open(path, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is damaged ({error}): copy it again") from error
    values, text = read_json(folder / "config.json", holds="the architecture of a model"), folder / "text"
    check_sealed(folder, values)
    needed = [WEIGHTS, HEADS] if isinstance(values.get(OWN), dict) else []
    needed += ["text/text.json", "text/*.safetensors"] if {*text.glob("*.json"), *text.glob("*.safetensors")} else []
    for name in needed:
        if not any(folder.glob(name)):
            raise UserError(f"{folder} has no {name}, which belongs to it: copy the folder again, or export it again")
    return len(weights)


def check_sealed(folder: Path, values: Mapping[str, Any]) -> None:
    """UserError: a file of an export is not the one that was written, or is absent. Older exports have no digests.

    ``values``: what its config.json holds.
    """
    own = values.get(OWN)
    if isinstance(own, dict) and "digest" in own:
        check_record(folder / "config.json", own)


def model_within(folder: Path) -> Path:
    """Of a run its model, or the folder itself; of a run that has not finished that is said."""
    if not (folder / "model").is_dir():
        return folder
    if where := unfinished(folder):
        log.warning("%s has not finished, it is at %s: the model of its last validation is used", folder, where)
    return folder / "model"


def run_of(model: Path) -> Path | None:
    """The run that a folder of weights belongs to by its place; None of an exported folder, which has all it needs."""
    if (model / HEADS).is_file():
        return None
    above = (model.resolve() if model.name in ("", "..") else model).parent
    return above.parent if above.name in ("snapshots", "top") else above


def unfinished(run: Path) -> str:
    """Where a run is, as ``step 3 of 10``, whose model/ is then that of a validation before; "" of one that has
    finished, and of what is no run or does not say it.
    """
    step, total = last_line(run / "metrics.jsonl").get("step", 0), last_line(run / "starts.jsonl").get("total", 0)
    return f"step {step} of {total}" if step < total else ""


def last_line(file: Path) -> dict[str, Any]:
    """What the last whole line of JSON says: a kill, or a full disk, may cut one short; {} where there is none."""
    for line in reversed(file.read_text(encoding="utf-8").splitlines() if file.is_file() else []):
        try:
            return dict(json.loads(line))
        except (ValueError, TypeError):
            continue
    return {}


def split_id(name: str) -> tuple[str, str]:
    """``hf-hub:OWNER/NAME@REVISION`` -> OWNER/NAME and the revision, main by default."""
    repository, at, revision = name.removeprefix(HUB).partition("@")
    if not _ID.fullmatch(repository) or (at and not revision):
        raise UserError(f"{name} is not a repository of the hub: write {HUB}OWNER/NAME@REVISION")
    return repository, revision or "main"


def _fetched(repository: str, revision: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UserError(f"{HUB}{repository} needs the package huggingface_hub: pip install huggingface_hub") from error
    try:
        with hushed(*CLIENTS):
            return Path(snapshot_download(repository, revision=revision, allow_patterns=FILES))
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot get {repository}@{revision} from the hub ({type(error).__name__}): "
            "check the name, or give a folder if there is no network"
        ) from error


def is_available(repository: str, revision: str | None = None) -> bool:
    """Whether weights are in the hub's cache on this disk, or the hub responds: its own client tries for a minute."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        cached = Path(snapshot_download(repository, revision=revision, local_files_only=True))
        if any(path.suffix in {".safetensors", ".bin"} for path in cached.iterdir()):
            return True
    except (OSError, ValueError):  # none
        pass
    try:
        get_hf_file_metadata(hf_hub_url(repository, "config.json"), timeout=_SECONDS)
    except HfHubHTTPError:  # a response, though it may be that there is no such file
        return True
    except Exception:  # those of the HTTP library that the client of this version uses
        return False
    return True


class Remote(NamedTuple):
    """A repository of the hub, and its files; ``commit`` is empty where there is none, or it is hidden from you."""

    address: str
    private: bool
    commit: str
    files: frozenset[str]


def look_up(repository: str, *, private: bool = True) -> Remote:
    """What is on the hub now; a repository that is not there yet will be ``private``."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    api = HfApi()
    address = f"{api.endpoint}/{repository}"
    with _reported(repository):
        try:
            info = api.model_info(repository)
        except RepositoryNotFoundError:
            return Remote(address, private, "", frozenset())
        names = frozenset(each.rfilename for each in info.siblings or ())
        return Remote(address, bool(info.private), info.sha or "", names)


def upload(folder: Path, repository: str, names: Sequence[str], *, stale: Collection[str], public: bool) -> bool:
    """One commit that adds files and removes ``stale`` ones; whether anything has changed. A new repository is private,
    unless ``public``. UserError where it is public all the same.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    adding = [CommitOperationAdd(name, folder / name) for name in names]
    removing = [CommitOperationDelete(name) for name in stale]
    with _reported(repository):
        api.create_repo(repository, private=not public, exist_ok=True)
        before = api.repo_info(repository)
        if not before.private and not public:
            raise UserError(f"{repository} is public, and nothing was uploaded: make it private, or push --public")
        commit = api.create_commit(
            repository, [*adding, *removing], commit_message="Upload of imitate push", parent_commit=before.sha
        )
    return bool(commit.oid != before.sha)


@contextmanager
def _reported(repository: str) -> Iterator[None]:
    try:
        with hushed(*CLIENTS):
            yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # of the hub and of the network: they have no common base
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"cannot push to {repository}: {reason[0][:200]}; check its name and the network, and log in with "
            "`hf auth login`"
        ) from error


@contextmanager
def hushed(*loggers: str) -> Iterator[None]:
    """Without what other libraries say of their steps, where ours says what came of them."""
    found = [logging.getLogger(name) for name in loggers]
    before = [each.level for each in found]
    for each in found:
        each.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for each, level in zip(found, before, strict=True):
            each.setLevel(level)
