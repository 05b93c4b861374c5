"""The hub is a fake that keeps what it is given, as the real one's snapshots lie on disk."""

from pathlib import Path

import huggingface_hub
import pytest

from imitate.errors import UserError
from imitate.models.hub import FILES, is_available, local_folder, look_up


def test_nothing_but_a_name_of_the_hub_is_asked_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: pytest.fail("asked the hub"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "first").mkdir(parents=True)
    assert local_folder("runs/first") == local_folder(Path("runs/first")) == Path("runs/first")
    for source in (Path("runs/absent"), "../absent", "runs/a/b", str(tmp_path / "absent")):
        with pytest.raises(UserError, match="no model at .*: there is no such folder$"):
            local_folder(source)
    with pytest.raises(UserError, match="there is no such folder; a repository of the hub is hf-hub:someone/model"):
        local_folder("someone/model")


@pytest.mark.parametrize("name, revision", [("hf-hub:someone/model@v1", "v1"), ("hf-hub:someone/model", "main")])
def test_a_repository_is_fetched_at_its_revision_without_pickles(tmp_path, monkeypatch, name, revision):
    asked = {}

    def snapshot_download(source: str, **options: object) -> str:
        asked[source] = options
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert local_folder(name) == tmp_path
    assert asked == {"someone/model": {"revision": revision, "allow_patterns": FILES}}
    assert not any(pattern.endswith((".bin", ".pt", ".pkl", "*")) for pattern in FILES)


@pytest.mark.parametrize("name", ["hf-hub:model", "hf-hub:a/b/c", "hf-hub:a/b@", "hf-hub:", "hf-hub:../b"])
def test_what_is_no_repository_is_reported(name):
    with pytest.raises(UserError, match="is not a repository of the hub: write hf-hub:OWNER/NAME@REVISION"):
        local_folder(name)


def test_a_hub_that_cannot_be_reached_is_reported_in_one_line(monkeypatch):
    def snapshot_download(*args: object, **options: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("cannot find\nthe snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(UserError, match="cannot get someone/model@main from the hub.*give a") as reported:
        local_folder("hf-hub:someone/model")
    assert "\n" not in str(reported.value)


@pytest.mark.parametrize(
    "cached, response, expected", [(True, None, True), (False, None, True), (False, OSError("no route"), False)]
)
def test_weights_are_to_be_had_from_the_cache_or_from_a_hub_that_responds(
    tmp_path, monkeypatch, cached, response, expected
):
    def snapshot_download(repository: str, *, revision: str | None, local_files_only: bool) -> str:
        assert local_files_only and revision == "v1"
        return str(tmp_path)

    def get_hf_file_metadata(url: str, *, timeout: float) -> None:
        assert not cached and "someone/model" in url and url.endswith("/config.json") and timeout == 10
        if response:
            raise response

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", get_hf_file_metadata)
    (tmp_path / ("model.safetensors" if cached else "config.json")).write_text("")
    assert is_available("someone/model", "v1") == expected


def test_weights_are_cached_as_either_kind_and_a_refusal_is_a_response(tmp_path, monkeypatch):
    (tmp_path / "pytorch_model.bin").write_text("")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *_, **__: pytest.fail("asked the hub"))
    assert is_available("someone/model")
    (tmp_path / "pytorch_model.bin").unlink()
    kind = huggingface_hub.errors.HfHubHTTPError

    def refuse(*_: object, **__: object) -> None:
        raise kind.__new__(kind)

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", refuse)
    assert is_available("someone/model")


@pytest.mark.parametrize(("error", "reported"), [(KeyError(), "KeyError"), (OSError("x" * 300), "x" * 200)])
def test_a_reason_is_short_and_never_empty(monkeypatch, error, reported):
    class Refusing:
        endpoint = "https://hub.example"

        def model_info(self, repository: str) -> None:
            raise error

    monkeypatch.setattr(huggingface_hub, "HfApi", Refusing)
    with pytest.raises(UserError, match=f"cannot push to someone/model: {reported}; check its name"):
        look_up("someone/model")
