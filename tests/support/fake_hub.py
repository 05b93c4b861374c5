"""A hub on this machine that keeps commits in memory: as much of its protocol as pushing and fetching a model need."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
import pytest


class Repository:
    def __init__(self, private: bool) -> None:
        self.private = private
        self.files: dict[str, bytes] = {".gitattributes": b""}
        self.commits = ["0" * 40]


class Hub:
    """``asked`` are the requests so far, ``refused`` is a status with which it responds to all of them."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.asked: list[str] = []
        self.refused = 0

    def respond(self, method: str, path: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        """Status, content (bytes, or what JSON is made of) and headers."""
        self.asked.append(f"{method} {path}")
        if self.refused:
            return self.refused, {"error": "Unauthorized"}, {}
        parts = path.strip("/").split("/")
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if name in self.repositories:
                return 409, {"error": "it exists", "url": name}, {}
            self.repositories[name] = Repository(asked.get("visibility") == "private" or asked.get("private", False))
            return 200, {"url": name}, {}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}, {}
        if parts[:2] == ["api", "models"] and len(parts) >= 4:
            return self._api("/".join(parts[2:4]), parts[4:], body)
        if parts[2:3] == ["resolve"]:
            return self._file("/".join(parts[:2]), "/".join(parts[4:]))
        return 404, {}, {}

    def _api(self, name: str, action: list[str], body: bytes) -> tuple[int, Any, dict[str, str]]:
        if name not in self.repositories:
            return 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
        found = self.repositories[name]
        if not action or action[0] == "revision":
            siblings = [{"rfilename": each} for each in sorted(found.files)]
            return 200, {"id": name, "sha": found.commits[-1], "private": found.private, "siblings": siblings}, {}
        if action[0] == "tree":
            tree = [
                {"type": "file", "path": each, "size": len(held), "oid": oid(held)}
                for each, held in found.files.items()
            ]
            return 200, tree, {}
        if action[0] == "preupload":
            files = []
            for each in json.loads(body)["files"]:
                known = found.files.get(each["path"])
                files.append({"path": each["path"], "uploadMode": "regular", "shouldIgnore": False,
                              "oid": None if known is None else oid(known)})  # fmt: skip
            return 200, {"files": files}, {}
        if action[0] == "commit":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    found.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "deletedFile":
                    del found.files[line["value"]["path"]]
                elif (parent := line["value"].get("parentCommit")) not in (None, found.commits[-1]):
                    return 412, {"error": f"{parent} is not the last commit"}, {}
            found.commits.append(f"{len(found.commits):040x}")
            return 200, {"commitUrl": f"{name}/commit/{found.commits[-1]}", "commitOid": found.commits[-1]}, {}
        return 404, {}, {}

    def _file(self, name: str, file: str) -> tuple[int, Any, dict[str, str]]:
        found = self.repositories.get(name)
        if found is None or file not in found.files:
            code = "EntryNotFound" if found else "RepoNotFound"
            return 404, {}, {"X-Error-Code": code, "X-Repo-Commit": found.commits[-1] if found else ""}
        return 200, found.files[file], {"X-Repo-Commit": found.commits[-1], "ETag": f'"{oid(found.files[file])}"'}


def oid(content: bytes) -> str:
    """As git names a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def running(monkeypatch: pytest.MonkeyPatch, cache: str) -> Iterator[Hub]:
    """On loopback, as HF_ENDPOINT; with a cache of its own, and a token."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, content, headers = hub.respond(self.command, urlsplit(self.path).path, body)
            sent = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(sent))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(sent)

        do_GET = do_HEAD = do_POST = _serve

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    constants = huggingface_hub.constants  # which reads the environment once
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", cache)
    monkeypatch.setenv("HF_TOKEN", "hf_token")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
