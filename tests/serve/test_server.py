import asyncio
import io
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from processes import HANG
from served import serving
from uploads import dicom, encoded, enormous, photograph, picture, several_frames

from imitate.serve.guard import HEADERS
from imitate.serve.schema import NOTICE
from imitate.serve.server import PAGE, create
from imitate.serve.worker import Places, Worker


@pytest.fixture(scope="module")
def client(address):
    with httpx.Client(base_url=address, timeout=HANG) as client:
        yield client


@pytest.fixture(scope="module")
def image(client) -> str:
    return client.post("/api/images", content=encoded(picture())).json()["id"]


def test_upload_then_see_it(client, tmp_path):
    for content in (encoded(picture()), dicom(tmp_path)):
        opened = client.post("/api/images", content=content).json()
        assert (opened["width"], opened["height"]) == (80, 90)
        shown = client.get(f"/api/images/{opened['id']}/picture")
        assert shown.headers["content-type"] == "image/png"
        assert Image.open(io.BytesIO(shown.content)).size == (80, 90)


@pytest.mark.parametrize("accepted", ["gzip", "identity"])
def test_pixels_to_show(client, image, accepted):
    described = client.get(f"/api/images/{image}").json()
    shown = described["pixels"]
    assert (described["id"], shown["width"], shown["height"], shown["bits"]) == (image, 80, 90, 8)
    response = client.get(f"/api/images/{image}/pixels", headers={"accept-encoding": accepted})
    assert response.headers.get("content-encoding", "identity") == accepted
    assert np.array_equal(np.frombuffer(response.content, np.uint8).reshape(90, 80), picture())


def test_an_image_can_be_forgotten(client):
    id_ = client.post("/api/images", content=encoded(picture())).json()["id"]
    assert client.delete(f"/api/images/{id_}").status_code == 204
    for gone in (client.get(f"/api/images/{id_}"), client.delete(f"/api/images/{id_}")):
        assert gone.status_code == 404 and "open it again" in gone.json()["error"]
    assert client.delete("/api/images/example-1").status_code == 404
    assert client.get("/api/images/example-1").status_code == 200


def test_classify(client, image):
    prompts = {"Effusion": "left effusion", "Heart": {"positive": ["heart large"], "negative": ["heart normal"]}}
    response = client.post(f"/api/images/{image}/classify", json={"prompts": prompts, "branch": "impression"}).json()
    assert [each["name"] for each in response["classes"]] == ["Effusion", "Heart"]
    assert all(0 < each["score"] < 1 and each["probability"] is None for each in response["classes"])
    assert response["notice"] == NOTICE
    built_in = client.post(f"/api/images/{image}/classify", json={}).json()
    assert {each["name"] for each in built_in["classes"]} == client.get("/api/about").json()["prompts"].keys()


def test_words_that_are_not_known_are_noted(client, image):
    asked = {"prompts": {"x": {"positive": ["left effusion qwertz"], "negative": ["clear"]}}}
    (note,) = client.post(f"/api/images/{image}/classify", json=asked).json()["notes"]
    assert note.endswith("qwertz")
    response = client.post(f"/api/images/{image}/heatmap", json={"phrase": "left effusion Ünbekannt\n"})
    assert "nbekannt" in response.headers["x-notes"]


def test_heatmap_as_picture_and_as_array(client, image, service):
    asked = {"phrase": "left effusion", "branch": "findings"}
    array = np.load(io.BytesIO(client.post(f"/api/images/{image}/heatmap", json={**asked, "format": "npy"}).content))
    assert np.array_equal(array, service.predictor.heatmap(picture(), "left effusion", branch="findings"))
    painted = np.asarray(Image.open(io.BytesIO(client.post(f"/api/images/{image}/heatmap", json=asked).content)))
    assert np.array_equal(painted[..., 3], (array * 255).round())
    other = client.post(f"/api/images/{image}/heatmap", json={**asked, "branch": "impression"}).content
    assert not np.array_equal(np.asarray(Image.open(io.BytesIO(other))), painted)


def test_reports(client, image):
    found = client.post(f"/api/images/{image}/reports", json={"k": 4, "branch": "findings"}).json()["reports"]
    assert len(found) == 4 and found[0]["similarity"] >= found[-1]["similarity"]
    assert all(each["findings"] and each["impression"] is None and each["images"] >= 1 for each in found)


def test_embeddings_give_the_cosine(client, image, service):
    (seen,) = client.post(f"/api/images/{image}/embedding", json={"branch": "findings"}).json()["vectors"]
    response = client.post("/api/texts/embedding", json={"texts": ["left effusion", "clear"], "branch": "findings"})
    read = np.array(response.json()["vectors"])
    assert read.shape == (2, len(seen)) and np.linalg.norm(seen) == pytest.approx(1, abs=1e-5)
    found = service.predictor.retrieve(image=picture(), index=["left effusion"], branch="findings")
    assert read[0] @ seen == pytest.approx(found["similarity"][0], abs=1e-5)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda _: b"", "empty file"),
        (lambda _: b"hello", "not a DICOM, PNG or JPEG"),
        (lambda _: photograph(), "colour picture"),
        (lambda _: enormous(), "too many pixels"),
        (several_frames, "several frames"),
    ],
)
def test_a_bad_file_is_reported_in_one_line(client, tmp_path, make, reason):
    response = client.post("/api/images", content=make(tmp_path))
    assert response.status_code == 422 and response.json().keys() == {"error"}
    assert reason in response.json()["error"] and "\n" not in response.json()["error"]


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("classify", {"prompts": {"x": ""}}, "empty"),
        ("classify", {"prompts": {"x": "qwertz"}}, "knows no word"),
        ("classify", {"prompts": {"x": {"positive": [" "], "negative": ["clear"]}}}, "prompts of x"),
        ("classify", {"prompts": {"x": {"positive": ["left"]}}}, "prompts.x"),
        ("classify", {"prompts": {}}, "prompts"),
        ("classify", {"prompts": {str(i): "left" for i in range(51)}}, "at most 50"),
        ("classify", {"temperature": 0}, "temperature"),
        ("classify", {"temperature": "NaN"}, "temperature"),
        ("classify", {"branch": "left"}, "branch"),
        ("classify", {"prompt": {}}, "prompt"),
        ("heatmap", {"phrase": "  "}, "empty"),
        ("heatmap", {"phrase": "x" * 501}, "at most 500"),
        ("heatmap", {}, "phrase"),
        ("heatmap", [], "the request"),
        ("reports", {"k": 0}, "k:"),
        ("reports", {"k": 10**9}, "k:"),
    ],
)
def test_a_bad_question_is_reported_in_one_line(client, image, path, body, reason):
    response = client.post(f"/api/images/{image}/{path}", json=body)
    assert response.status_code == 422 and reason in response.json()["error"], response.text
    assert "\n" not in response.json()["error"] and len(response.json()["error"]) < 400


def test_what_is_no_json_is_reported(client, image):
    for body in (b"{", b"\xff\xfe", b"[" * 100_000):
        response = client.post(
            f"/api/images/{image}/reports", content=body, headers={"content-type": "application/json"}
        )
        assert 400 <= response.status_code < 500 and response.json()["error"]


@pytest.mark.parametrize("id_", ["nothing", "..%2f..%2fetc%2fpasswd", "%00", "<script>"])
def test_an_unknown_image_is_reported(client, id_):
    response = client.post(f"/api/images/{id_}/reports", json={})
    assert response.status_code == 404 and response.headers["content-type"] == "application/json"
    assert "script" not in response.text


@pytest.mark.parametrize("path", ["/nothing", "/docs", "/redoc", "/../server.py", "/%2e%2e/server.py"])
def test_only_the_files_of_the_page_are_served(client, path):
    response = client.get(path)
    assert response.status_code == 404 and "/openapi.json" in response.json()["error"]
    assert HEADERS.items() <= dict(response.headers).items()


def test_the_page_asks_only_its_own_server(client):
    assert NOTICE in client.get("/").text
    for file in PAGE.iterdir():
        served = client.get("/" if file.name == "index.html" else f"/{file.name}")
        assert served.content == file.read_bytes()
        text = served.text.replace("http://www.w3.org/2000/svg", "")
        assert "//" not in "".join(line.split("// ")[0] for line in text.splitlines()), file.name
    assert client.post("/").status_code == 405
    assert client.head("/").status_code == client.head("/api/about").status_code == 200
    assert client.head("/").content == b""


def test_the_schema_types_every_request_and_response(client):
    schema = client.get("/openapi.json").json()
    assert NOTICE in schema["info"]["description"]
    for path, methods in schema["paths"].items():
        for method, described in methods.items():
            assert method == "delete" or described["responses"]["200"]["content"], path
            assert method in ("get", "delete") or described["requestBody"]["content"], path
            assert described["responses"]["422"]["content"]["application/json"]["schema"]["$ref"].endswith("/Problem")


def test_no_telemetry(service, monkeypatch, caplog):
    """Not even where the environment asks the web framework for it, which would then warn that it has no exporter."""
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    asked = iter(["lifespan.startup", "lifespan.shutdown"])
    reported = []

    async def receive() -> dict[str, str]:
        return {"type": next(asked)}

    async def send(message: dict[str, str]) -> None:
        reported.append(message["type"])

    asyncio.run(create(service)({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send))
    assert reported == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert not caplog.records


def test_a_busy_server_says_so_and_goes_on_responding(service, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(service, "embed_texts", lambda *_: release.wait(HANG) and [[1.0]])
    app: Any = create(service)
    app.app.state.worker = worker = Worker(waiting=4)
    with serving(app) as address, ThreadPoolExecutor(2) as threads:
        asking = [
            threads.submit(httpx.post, f"{address}/api/texts/embedding", json={"texts": ["a"]}, timeout=HANG)
            for _ in range(2)
        ]
        while worker.places.free > 2:  # of one address no more
            assert not any(each.done() for each in asking)
            time.sleep(0.02)
        refused = httpx.post(f"{address}/api/images", content=encoded(picture()), timeout=HANG)
        assert refused.status_code == 503 and "busy" in refused.json()["error"] and refused.headers["retry-after"]
        assert httpx.get(f"{address}/api/about", timeout=HANG).status_code == 200
        release.set()
        assert [each.result().status_code for each in asking] == [200, 200]
        assert httpx.post(f"{address}/api/images", content=encoded(picture()), timeout=HANG).status_code == 200


def test_uploads_that_send_nothing_take_no_room(service, monkeypatch):
    head = b"POST /api/images HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    content = encoded(picture())
    app: Any = create(service)
    app.app.state.uploads = places = Places(4 * len(content))
    with serving(app) as address, ExitStack() as held:
        host, port = address.removeprefix("http://").split(":")
        for _ in range(9):
            connection = held.enter_context(socket.create_connection((host, int(port)), timeout=HANG))
            connection.sendall(head)
            assert connection.recv(100).startswith(b"HTTP/1.1 100")  # the server waits for the body
        assert httpx.post(f"{address}/api/images", content=content, timeout=HANG).status_code == 200
        refused = httpx.post(f"{address}/api/images", content=3 * content, timeout=HANG)
        assert refused.status_code == 503 and "busy" in refused.json()["error"]
        assert places.free == 4 * len(content)


def test_our_own_mistake_is_a_response_and_one_line_in_the_log(service, monkeypatch, caplog):
    def fail(*_: object) -> None:
        raise ValueError("left effusion of somebody")  # may quote what was asked

    monkeypatch.setattr(service, "embed_texts", fail)
    with serving(create(service)) as address:
        response = httpx.post(f"{address}/api/texts/embedding", json={"texts": ["a"]}, timeout=HANG)
        assert response.status_code == 500 and "effusion" not in response.text and response.json()["error"]
        assert HEADERS.items() <= dict(response.headers).items()
        assert httpx.get(f"{address}/api/about", timeout=HANG).status_code == 200
    (record,) = caplog.records
    line = record.getMessage()
    assert record.exc_info is None and "ValueError in server.py, line" in line and "effusion" not in line


def test_no_user_puts_a_traceback_into_the_log(service, caplog):
    """Broken-off requests, in every state that they can be in, and what is no HTTP."""
    json = b'{"phrase": "left effusion"}'
    post = b"POST /api/images/example-1/heatmap HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with serving(create(service)) as address:
        host, port = address.removeprefix("http://").split(":")
        for sent in (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),  # a browser that was given https://
            b"NONSENSE\r\n\r\n",
            post + b"Content-Length: 1000\r\n\r\n" + json,
            post + b"Content-Length: %d\r\n\r\n" % len(json) + json,  # gone before the response
            b"GET /api/images/example-1/pixels HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20,  # nobody reads them
        ):
            with socket.create_connection((host, int(port)), timeout=HANG) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # resets at its end
                connection.sendall(sent)
        assert httpx.get(f"{address}/api/about", timeout=HANG).status_code == 200
        asked = httpx.post(f"{address}/api/images/example-1/heatmap", content=json, timeout=HANG)
        assert asked.status_code in (200, 422)  # after all of those before it
    assert not [record for record in caplog.records if record.exc_info or "Traceback" in record.getMessage()]


def test_the_password_guards_everything(service):
    with serving(create(service, password="secret")) as address:
        for path in ("/", "/viewer.js", "/api/about", "/openapi.json", "/api/images/example-1/picture"):
            assert httpx.get(f"{address}{path}", timeout=HANG).status_code == 401
            assert httpx.get(f"{address}{path}", auth=("me", "secret"), timeout=HANG).status_code == 200
