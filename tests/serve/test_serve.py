import logging
import socket

import pytest
from served import untrained

from imitate.cli import main
from imitate.commands.serve import serve
from imitate.errors import UserError
from imitate.inference.encoder import ImitateEncoder
from imitate.models.text import save_text_encoder
from imitate.serve import launch as app
from imitate.serve.guard import Guard
from imitate.serve.launch import is_loopback


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    predictor, _ = untrained(root)
    assert isinstance(predictor.encoder, ImitateEncoder) and predictor.encoder.text
    predictor.encoder.model.save(root / "run" / "model")
    save_text_encoder(predictor.encoder.text, root / "run" / "text")
    return root


class Ran(list):
    """Stands for the web server: what it was given, and the port that was open then."""

    def __call__(self, guard: Guard) -> "Ran":
        self.append(guard)
        return self

    def run(self, sockets: list[socket.socket]) -> None:
        self.append(sockets[0].getsockname())
        socket.create_connection(self[-1]).close()


def test_serve(run, monkeypatch, caplog):
    ran = Ran()
    monkeypatch.setattr("imitate.serve.server.web_server", ran)
    monkeypatch.setenv(app.PASSWORD, "secret")
    with caplog.at_level(logging.INFO):
        serve(model=str(run / "run"), index=run / "data", port=0)
    guard, (host, port) = ran
    assert host == "127.0.0.1" and f"http://127.0.0.1:{port}" in caplog.text
    assert guard.local and guard.password == "secret" and guard.token is None and "token" not in caplog.text
    assert guard.app.state.service.about.index == "data"


def test_without_a_password_the_address_has_a_token(run, monkeypatch, caplog):
    ran = Ran()
    monkeypatch.setattr("imitate.serve.server.web_server", ran)
    monkeypatch.delenv(app.PASSWORD, raising=False)
    with caplog.at_level(logging.INFO):
        serve(model=str(run / "run"), host="127.0.0.2", port=0)
        serve(model=str(run / "run"), port=0)
    first, (host, port), second, _ = ran
    assert f"http://{host}:{port}/#token={first.token} (Ctrl-C" in caplog.text and host == "127.0.0.2"
    assert len(first.token) >= 20 and first.token != second.token


def test_others_are_let_in_with_a_password_only(run, monkeypatch):
    monkeypatch.delenv(app.PASSWORD, raising=False)
    for host in ("0.0.0.0", "::", "192.168.1.7", "a.name"):
        with pytest.raises(UserError, match=f"--host {host}.*{app.PASSWORD}"):
            serve(model=str(run / "run"), host=host)
    monkeypatch.setenv(app.PASSWORD, "")
    with pytest.raises(UserError, match=app.PASSWORD):
        serve(model=str(run / "run"), host="0.0.0.0")


def test_a_token_of_the_environment_lets_those_in_who_know_it_and_is_not_printed(run, monkeypatch, caplog):
    ran = Ran()
    monkeypatch.setattr("imitate.serve.server.web_server", ran)
    monkeypatch.delenv(app.PASSWORD, raising=False)
    monkeypatch.setenv(app.TOKEN, "0123456789abcdef")
    with caplog.at_level(logging.INFO):
        serve(model=str(run / "run"), host="0.0.0.0", port=0)
    guard, (host, port) = ran
    assert guard.token == "0123456789abcdef" and not guard.local and guard.password is None
    assert f"http://{host}:{port}/#token=$IMITATE_TOKEN (Ctrl-C" in caplog.text and guard.token not in caplog.text
    for bad in ("0123456789abcde", "0123456789 abcdef", "0123456789abcdef#"):
        monkeypatch.setenv(app.TOKEN, bad)
        with pytest.raises(UserError, match="IMITATE_TOKEN must have 16 or more") as refused:
            serve(model=str(run / "run"), port=0)
        assert bad not in str(refused.value)


def test_loopback():
    assert all(is_loopback(host) for host in ("localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]"))
    assert not any(is_loopback(host) for host in ("", "0.0.0.0", "::", "10.0.0.1", "localhost.example.org"))


def test_a_port_that_is_taken(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port}.*--port"):
            serve(model=str(run / "run"), port=port)
    with pytest.raises(UserError, match="not a port"):
        serve(model=str(run / "run"), port=70_000)


def test_the_command_line_names_what_is_missing(tmp_path, capsys):
    assert main(["serve", "--model", str(tmp_path), "--port", "0"]) == 2
    assert "no model at" in capsys.readouterr().err
