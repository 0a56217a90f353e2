"""The addresses of the service, and what each answers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.resources import files as package_files
from typing import Annotated, Any

import faiss
from fastapi import APIRouter, Depends, FastAPI, File, Form, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.params import Form as FormInfo
from fastapi.responses import Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

import hierpretrain
from hierpretrain.apis.command import read_level
from hierpretrain.evaluation import Embeddings
from hierpretrain.serve.batches import Batches
from hierpretrain.serve.forms import Names, read_branch, read_images, read_json, told, where_of
from hierpretrain.serve.guard import LOOPBACK, Guard, Json
from hierpretrain.serve.limits import Refusal, size
from hierpretrain.serve.service import Service

_POLL = 1.0  # seconds between looks at what others have changed
_PAGES = {
    "/": ("page.html", "text/html"),
    "/docs": ("endpoints.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/endpoints.js": ("endpoints.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
_LISTS = ("images", "where")  # fields that a form may have several times


async def _check_said(request: Request) -> None:
    """Refuses a request that says what nothing would hear, or a thing twice, of which one alone would count."""
    kind = request.headers.get("content-type", "").lower()
    fields = request.scope["route"].dependant
    address = [one.alias for one in fields.query_params]
    form = [one.alias for one in fields.body_params if isinstance(one.field_info, FormInfo)]
    if fields.body_params and not form and not kind.startswith("application/json"):  # else it is taken for a text
        raise Refusal(415, f"{request.url.path} takes JSON; send it with the header Content-Type: application/json")
    said = [name for name, _ in request.query_params.multi_items()]
    _check_heard(request, said, address, f"in the address it takes {_listed(address)}, in the form {_listed(form)}")
    if kind.startswith(("multipart/form-data", "application/x-www-form-urlencoded")):
        sent = [name for name, _ in (await request.form()).multi_items()]
        _check_heard(request, sent, form, f"the form takes {_listed(form)}")
        said += [name for name in sent if name not in _LISTS]
    if twice := [name for name, count in Counter(said).items() if count > 1]:
        raise Refusal(422, f"{twice[0][:100]!r} must be there once; it is there {said.count(twice[0])} times")


def _check_heard(request: Request, said: Sequence[str], taken: Sequence[str], rule: str) -> None:
    if unheard := [name for name in said if name not in taken]:
        raise Refusal(422, f"{unheard[0][:100]!r} is nothing that {request.url.path} takes there; {rule}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"


_ROUTES = APIRouter(prefix="/api", dependencies=[Depends(_check_said)])
_TOKEN = [Depends(HTTPBearer(auto_error=False, description="The token that the service was started with."))]

Images = Annotated[list[UploadFile], File(description="The images.")]
Classify = Annotated[bool, Form(description="Whether to say where each image belongs in the tree, too.")]
Votes = Annotated[int | None, Form(description="Neighbours that vote; by default as the index was calibrated, or 20.")]
Threshold = Annotated[
    float | None, Form(gt=0, le=1, description="Votes that a name needs; by default as calibrated, or 0.5.")
]


def create_app(service: Service, hosts: Sequence[str] = LOOPBACK) -> Guard:
    """Returns the application that answers for a service, for a server of ASGI.

    Args:
        service: The service.
        hosts: Names by which it may be reached.
    """
    app = FastAPI(
        title="HierPretrain",
        version=hierpretrain.__version__,
        summary="Search and classification of images in an index.",
        docs_url=None,  # these two load scripts from elsewhere
        redoc_url=None,
        lifespan=_life,
    )
    app.state.service = service
    app.include_router(_ROUTES)
    for path, (name, kind) in _PAGES.items():
        data = package_files("hierpretrain.serve").joinpath("page", name).read_bytes()
        app.add_api_route(path, partial(_file, data, kind), include_in_schema=False)
    for kind in (Refusal, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, _told)
    return Guard(app, hosts, service.limits, service)


@asynccontextmanager
async def _life(app: FastAPI) -> AsyncIterator[None]:
    """Gives the application its threads, and looks for changes as long as it runs."""
    service = app.state.service
    app.state.threads = ThreadPoolExecutor(
        service.limits.workers, "request", initializer=faiss.omp_set_num_threads, initargs=(1,)
    )
    app.state.changes = ThreadPoolExecutor(1, "change")  # which may wait for other writers, while others search
    app.state.batches = Batches(service.index.inferencer)

    async def watch() -> None:
        while True:
            await asyncio.sleep(_POLL)
            await asyncio.to_thread(service.refresh)

    watching = asyncio.create_task(watch())
    yield
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    app.state.batches.close()
    app.state.threads.shutdown()
    app.state.changes.shutdown()


async def _file(data: bytes, kind: str) -> Response:
    return Response(data, media_type=kind)


async def _told(request: Request, error: Exception) -> Json:
    """Answers what went wrong as JSON; the traceback of a fault of ours goes to the log alone."""
    if isinstance(error, Refusal):
        return Json({"error": error.message}, error.status, error.headers)
    if isinstance(error, HTTPException):
        return Json({"error": error.detail}, error.status_code, error.headers)
    if isinstance(error, RequestValidationError):
        return Json({"error": told(error.errors())}, 422)
    return Json({"error": "the service failed; its log says why"}, 500)


async def _do(request: Request, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Runs a function in one of the threads for requests."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(request.app.state.threads, partial(function, *args, **options))


async def _change(request: Request, function: Callable[..., Any], *args: Any) -> Any:
    """Runs a function in the thread for changes, one at a time."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(request.app.state.changes, partial(function, *args))


async def _read(service: Service, images: Sequence[UploadFile]) -> list[tuple[str, bytes]]:
    """Returns the names and the bytes of images, if they are neither too many nor too large."""
    limits = service.limits
    if len(images) > limits.files:
        raise Refusal(413, f"a request may have {limits.files} images; this one has {len(images)}: send several")
    found = []
    for image in images:
        name = (image.filename or "image")[:200]
        if (image.size or 0) > limits.file_bytes:
            raise Refusal(
                413,
                f"an image may have {size(limits.file_bytes)}; {name!r} has {size(image.size or 0)}: save it smaller",
            )
        found.append((name, await image.read()))
    return found


async def _embed(request: Request, files: Sequence[tuple[str, bytes]]) -> Embeddings:
    service = request.app.state.service
    pictures = await _do(request, service.decode, files)
    try:
        features = await request.app.state.batches.embed(pictures)
    except ValueError as error:
        raise Refusal(400, service.public(error)) from error
    return service.queries([name for name, _ in files], features)


def _votes(votes: int | None, threshold: float | None) -> dict[str, float]:
    return {name: value for name, value in (("k", votes), ("threshold", threshold)) if value is not None}


@_ROUTES.get("/health")
async def health(request: Request) -> Response:
    """Says whether all is well: status 200, or 503 if the index cannot be read again."""
    stale = request.app.state.service.stale
    return Json({"status": stale or "ok"}, 503 if stale else 200)


@_ROUTES.get("/info")
async def info(request: Request) -> Json:
    """Says what is in the index, and what the limits are."""
    return Json(await _do(request, request.app.state.service.info))


@_ROUTES.get("/branches")
async def branches(request: Request) -> Json:
    """Lists the branches of the tree, each by its path; the first 20,000."""
    return Json(await _do(request, request.app.state.service.branches))


@_ROUTES.get("/thumbnail", response_class=Response, responses={200: {"content": {"image/webp": {}}}})
async def thumbnail(request: Request, path: Annotated[str, Query(max_length=4096)]) -> Response:
    """Returns a small picture of an image of the index, by its path as a search answers it."""
    data = await _do(request, request.app.state.service.thumbnail, path)
    return Response(data, media_type="image/webp", headers={"Cache-Control": "private, max-age=300"})


@_ROUTES.post("/embed")
async def embed(request: Request, images: Images) -> Json:
    """Returns the embeddings of images, of unit length, in their order."""
    service = request.app.state.service
    queries = await _embed(request, await _read(service, images))
    index = service.index
    return Json({"model": index.model, "fingerprint": index.fingerprint, "embeddings": queries.features.tolist()})


@_ROUTES.post("/search")
async def search(
    request: Request,
    images: Images,
    k: Annotated[int, Form(description="How many neighbours of each image.")] = 10,
    level: Annotated[str | None, Form(description="A level: one neighbour for each of its nodes.")] = None,
    within: Annotated[str | None, Form(description="A branch: its path, its name, or a JSON list of names.")] = None,
    where: Annotated[list[str] | None, Form(description="Metadata that neighbours have: NAME=TEXT.")] = None,
    classify: Classify = False,
) -> Json:
    """Finds the images of the index that are most like given ones."""
    service = request.app.state.service
    options = {
        "level": read_level(level) if level else None,
        "within": read_branch(within),
        "where": where_of([pair for pair in where or () if pair]),
    }
    await _do(request, service.check_search, k, **options)  # not after the embedding
    if classify:
        await _do(request, service.check_classify, {})
    queries = await _embed(request, await _read(service, images))
    results = await _do(request, service.search, queries, k, **options)
    if classify:
        for result, found in zip(results, await _do(request, service.classify, queries, {}), strict=True):
            result["classification"] = {name: value for name, value in found.items() if name != "query"}
    return Json({"results": results})


@_ROUTES.post("/classify")
async def classify(request: Request, images: Images, votes: Votes = None, threshold: Threshold = None) -> Json:
    """Says where in the tree images belong, and how sure that is."""
    service, options = request.app.state.service, _votes(votes, threshold)
    await _do(request, service.check_classify, options)
    queries = await _embed(request, await _read(service, images))
    return Json({"results": await _do(request, service.classify, queries, options)})


@_ROUTES.post("/add", dependencies=_TOKEN)
async def add(
    request: Request,
    images: Images,
    about: Annotated[
        str,
        Form(description='A JSON list, an object for each image: {"key": "S7", "labels": ["animal", "cat"]}.'),
    ],
) -> Json:
    """Adds images to the index, which must be started with a token."""
    service = request.app.state.service
    known = read_images(about)
    if len(known) != len(images):
        raise Refusal(422, f"about must tell of each image; it tells of {len(known)}, and {len(images)} were sent")
    files = await _read(service, images)
    queries = await _embed(request, files)
    return Json(await _change(request, service.add, known, files, queries.features))


@_ROUTES.post("/remove", dependencies=_TOKEN)
async def remove(request: Request, names: Names) -> Json:
    """Removes images from the index, all of a key and all of a path; their files stay."""
    read_json(
        (await request.body()).decode(errors="replace"), "body"
    )  # strictly: of a list that is there twice, one would count
    service = request.app.state.service
    return Json(await _change(request, service.remove, names.names))
