"""The HTTP API, and the page's files beside it. Typed, and documented at /openapi.json."""

import gzip
import json
import logging
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from imitate.errors import UserError
from imitate.serve.connections import Connection
from imitate.serve.guard import UPLOAD, Guard
from imitate.serve.images import Held
from imitate.serve.schema import (
    NOTICE,
    About,
    Classified,
    ClassifyQuestion,
    HeatmapQuestion,
    Problem,
    Question,
    Reports,
    ReportsQuestion,
    TextsQuestion,
    Uploaded,
    Vectors,
)
from imitate.serve.service import MAX_BYTES, Service, describe
from imitate.serve.worker import Full, Places, Run, Worker

log = logging.getLogger(__name__)
PAGE = Path(__file__).with_name("page")
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
UPLOADS = 8 * MAX_BYTES  # in memory at once; of one address half of it
GRACE = 5  # seconds that requests under way have to end when the server is stopped
SILENT: Any = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
REFUSALS = (400, 401, 403, 404, 408, 413, 421, 422, 429, 503)
PROBLEMS: dict[int | str, dict[str, Any]] = {code: {"model": Problem} for code in REFUSALS}
REASONS = {  # for what the framework says
    "Not Found": "nothing is at this address: /openapi.json lists what is",
    "There was an error parsing the body": "the body is no JSON in UTF-8",
}
GONE = "this image is not here, or no longer: open it again"
BINARY = {"type": "string", "format": "binary"}
api = APIRouter(prefix="/api", responses=PROBLEMS)


def create(service: Service, *, password: str | None = None, token: str | None = None, local: bool = True) -> Guard:
    """The whole server as an ASGI application; ``local`` where it listens at this machine's own address alone."""
    app = FastAPI(
        title="imitate",
        version=version("imitate-cxr"),
        description=f"Chest radiographs and words. {NOTICE}",
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        telemetry=SILENT,
    )
    app.state.service, app.state.worker, app.state.uploads = service, Worker(), Places(UPLOADS)
    app.include_router(api)
    for file in PAGE.iterdir():
        _serve_file(app, file)
    app.add_exception_handler(UserError, lambda _, error: _problem(422, str(error)))
    app.add_exception_handler(Full, lambda *_: _problem(503, "the server is busy: try again in a moment"))
    app.add_exception_handler(RequestValidationError, lambda _, error: _problem(422, _first(error)))
    app.add_exception_handler(AnyHTTPException, _known)
    app.add_exception_handler(ClientDisconnect, lambda *_: _problem(400, "the request ended early"))  # to nobody
    app.add_exception_handler(Exception, lambda *_: _problem(500, "the server made a mistake; its log says more"))
    return Guard(app, max_bytes=MAX_BYTES, password=password, token=token, local=local)


def web_server(app: ASGIApp) -> uvicorn.Server:
    """Quiet, since addresses and phrases are nobody's business.

    Headers such as X-Forwarded-For are not believed: anybody can send them, and limits are by address.
    """
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    settings = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        proxy_headers=False,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
    return uvicorn.Server(settings)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _run(request: Request) -> Run:
    return Run(request.app.state.worker, _address(request))


TheService = Annotated[Service, Depends(_service)]
TheRun = Annotated[Run, Depends(_run)]


def _held(image: str, service: TheService) -> Held:
    if held := service.find(image):
        return held
    raise HTTPException(404, GONE)


TheImage = Annotated[Held, Depends(_held)]


@api.get("/about")
async def about(service: TheService) -> About:
    """The model, its built-in prompts, the examples."""
    return service.about


@api.post(
    UPLOAD.removeprefix("/api"),
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": BINARY}}}},
)
async def upload(request: Request, service: TheService, run: TheRun) -> Uploaded:
    """The bytes of one DICOM, PNG or JPEG file; they decide what it is. Kept in memory only."""
    address, content = _address(request), bytearray()
    with request.app.state.uploads.taken(address, 0) as take:
        async for part in request.stream():
            take(len(part))
            content += part
        held, _ = await run(lambda: service.read(bytes(content)))
    return describe(service.keep(held, address), held)


@api.get("/images/{image}")
async def image(image: str, held: TheImage) -> Uploaded:
    """Whether it is still here."""
    return describe(image, held)


@api.delete("/images/{image}", status_code=204)
async def close(image: str, service: TheService) -> None:
    """Forget an upload; the examples stay."""
    if not service.forget(image):
        raise HTTPException(404, GONE)


@api.get(
    "/images/{image}/pixels",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {"schema": BINARY}}}},
)
async def pixels(held: TheImage, request: Request) -> Response:
    """Gray values of 8 or 16 bits (little-endian), row by row, without the window of a DICOM header."""
    packed = "gzip" in request.headers.get("accept-encoding", "")
    headers = {"Content-Encoding": "gzip"} if packed else {}
    content = held.raw if packed else gzip.decompress(held.raw)
    return Response(content, media_type="application/octet-stream", headers=headers)


@api.get("/images/{image}/picture", response_class=Response, responses={200: {"content": {"image/png": {}}}})
async def picture(held: TheImage) -> Response:
    """The image as shown, a PNG of at most 1024 pixels a side."""
    return Response(held.picture, media_type="image/png")


@api.post("/images/{image}/classify")
async def classify(held: TheImage, question: ClassifyQuestion, service: TheService, run: TheRun) -> Classified:
    """For each class, how far its positive sentences win over the negative ones, and each sentence's own cosine."""
    found, notes = await run(lambda: service.classify(held, question))
    return Classified(classes=found, notes=notes)


@api.post(
    "/images/{image}/heatmap",
    response_class=Response,
    responses={200: {"content": {"image/png": {}, "application/octet-stream": {}}}},
)
async def heatmap(held: TheImage, question: HeatmapQuestion, service: TheService, run: TheRun) -> Response:
    """Where the similarity to a phrase comes from; notes are in the header X-Notes, a JSON list."""
    content, notes = await run(lambda: service.heatmap(held, question))
    kind = "image/png" if question.format == "png" else "application/octet-stream"
    return Response(content, media_type=kind, headers={"X-Notes": json.dumps(notes)})


@api.post("/images/{image}/reports")
async def reports(held: TheImage, question: ReportsQuestion, service: TheService, run: TheRun) -> Reports:
    """The nearest reports of the index that the server was started with."""
    found, notes = await run(lambda: service.reports(held, question))
    return Reports(reports=found, notes=notes)


@api.post("/images/{image}/embedding")
async def embed_image(held: TheImage, question: Question, service: TheService, run: TheRun) -> Vectors:
    found, notes = await run(lambda: service.embed_image(held, question.branch))
    return Vectors(vectors=found, notes=notes)


@api.post("/texts/embedding")
async def embed_texts(question: TextsQuestion, service: TheService, run: TheRun) -> Vectors:
    found, notes = await run(lambda: service.embed_texts(question.texts, question.branch))
    return Vectors(vectors=found, notes=notes)


def _serve_file(app: FastAPI, file: Path) -> None:
    """Read now: no request leads to the disk."""
    content, kind = file.read_bytes(), KINDS[file.suffix]

    @app.get("/" if file.name == "index.html" else f"/{file.name}", include_in_schema=False)
    async def page() -> Response:
        return Response(content, media_type=kind)


def _problem(code: int, reason: str, headers: dict[str, str] | None = None) -> JSONResponse:
    retry = {"Retry-After": "1"} if code == 503 else {}
    return JSONResponse({"error": " ".join(reason.split())}, code, {**retry, **(headers or {})})


def _known(_: Request, error: Exception) -> Response:
    assert isinstance(error, AnyHTTPException)
    return _problem(error.status_code, REASONS.get(error.detail, error.detail), dict(error.headers or {}))


def _first(error: RequestValidationError) -> str:
    """The first of what is wrong, without the body that it came in."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "the request"
    return f"{where}: {first['msg']}"
