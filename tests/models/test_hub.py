"""The hub is a fake that keeps what it is given, as the real one's snapshots lie on disk."""

from pathlib import Path

import huggingface_hub
import pytest

from imitate.errors import UserError
from imitate.models.hub import FILES, local_folder, push


def test_folders_and_paths_are_never_asked_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: pytest.fail("asked the hub"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "first").mkdir(parents=True)
    for source in ("runs/first", Path("runs/absent"), "../absent", "runs/a/b", str(tmp_path / "absent")):
        assert local_folder(source) == Path(source)


def test_a_hub_id_is_fetched_at_its_revision_without_pickles(tmp_path, monkeypatch):
    asked = {}

    def snapshot_download(source: str, **options: object) -> str:
        asked[source] = options
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert local_folder("someone/model", revision="v1") == tmp_path
    assert asked == {"someone/model": {"revision": "v1", "allow_patterns": FILES}}
    assert not any(pattern.endswith((".bin", ".pt", ".pkl", "*")) for pattern in FILES)


def test_a_hub_that_cannot_be_reached_is_told_in_one_line(monkeypatch):
    def snapshot_download(*args: object, **options: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("cannot find\nthe snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(UserError, match="no folder someone/model here.*without the network give a folder") as told:
        local_folder("someone/model")
    assert "\n" not in str(told.value)


class FakeApi:
    calls: list[tuple[str, dict[str, object]]]

    def create_repo(self, repository: str, **options: object) -> str:
        self.calls.append((repository, options))
        return f"https://hub.example/{repository}"

    def upload_folder(self, **options: object) -> None:
        self.calls.append(("upload", options))


def test_push_creates_a_private_repository_and_uploads_the_folder(tmp_path, monkeypatch):
    FakeApi.calls = []
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    assert push(tmp_path, "someone/model") == "https://hub.example/someone/model"
    assert FakeApi.calls == [
        ("someone/model", {"private": True, "exist_ok": True}),
        ("upload", {"repo_id": "someone/model", "folder_path": tmp_path}),
    ]


def test_a_push_that_fails_is_told_with_the_way_out(tmp_path, monkeypatch):
    class Refusing(FakeApi):
        def create_repo(self, repository: str, **options: object) -> str:
            raise OSError("401 Unauthorized\nand more")

    monkeypatch.setattr(huggingface_hub, "HfApi", Refusing)
    with pytest.raises(UserError, match="cannot push to someone/model: 401 Unauthorized; log in"):
        push(tmp_path, "someone/model")
