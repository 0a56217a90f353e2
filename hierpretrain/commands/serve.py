"""Keeps a model warm beside an index and answers over HTTP, for programs and with a page for people.

Examples:
    hierpretrain serve photos.index
    hierpretrain serve photos.index --port 8080 --token-file token.txt --uploads added
    hierpretrain serve milvus://db:19530/shop --image-root /data/shop
    hierpretrain serve photos.index --host 0.0.0.0 --allow-host photos.example.org

Then open http://127.0.0.1:8000: drop images on the page, and see what is most like them. Programs send images to
/api/search, /api/classify and /api/embed; /docs lists all addresses, and /openapi.json says the same to programs.

Who may ask: this machine alone, unless --host says otherwise; then name the hosts by which the service is reached with
--allow-host. Who may change the index (/api/add, /api/remove): whoever sends the token; without one, nobody. Paths of
this machine are not told: images are named by their keys and by their paths below --image-root.

Common mistakes:
    - The index does not carry its model: make it without --no-model.
    - No picture is shown: the images have moved, or are not below --image-root.
    - Beyond this machine, the service speaks plain HTTP: put a server with TLS in front of it.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hierpretrain._extras import needed
from hierpretrain._parser import Parser
from hierpretrain.commands import errors_in_one_line, log_to_standard_error, printable

if TYPE_CHECKING:
    from hierpretrain.serve import Limits

_TOKEN = "HIERPRETRAIN_TOKEN"
_LIMITS = {
    "files": ("--max-files", "images in a request"),
    "file_bytes": ("--max-file-bytes", "bytes of an image"),
    "request_bytes": ("--max-request-bytes", "bytes of a request"),
    "requests": ("--max-requests", "requests at a time; others are told to come again"),
    "seconds": ("--max-seconds", "seconds that a request may take to arrive"),
    "neighbours": ("--max-neighbours", "neighbours of an image"),
    "workers": ("--threads", "threads that decode images and search"),
}


def main() -> None:
    """Serves until it is told to end, by Ctrl-C or SIGTERM; then it finishes what it has begun."""
    parser = Parser(description=__doc__)
    parser.add_argument("index", help="an index that carries its model: a folder, or an address of Milvus")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at (default: this machine alone)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    parser.add_argument("--allow-host", nargs="+", default=[], metavar="NAME", help="names that clients may use for it")
    parser.add_argument("--token-file", metavar="FILE", help=f"the token that changes need; or in {_TOKEN}")
    parser.add_argument("--image-root", metavar="FOLDER", help="images below it are shown (default: all of a folder's)")
    parser.add_argument(
        "--uploads", metavar="NAME", help="a folder below --image-root that keeps images that are added"
    )
    group = parser.add_argument_group("the model")
    group.add_argument("--device", help="such as cpu or cuda:1; a GPU if there is one")
    group.add_argument("--batch-size", type=int, default=64, help="images embedded at a time (default: 64)")
    group.add_argument("--model-threads", type=int, help="threads of the model on a CPU (default: as torch takes)")
    group = parser.add_argument_group("limits")
    for name, (flag, text) in _LIMITS.items():
        group.add_argument(flag, dest=name, type=int, help=f"{text} (default: {_defaults()[name]:,})")
    args = parser.parse_args()
    with errors_in_one_line():
        _serve(args)


def _defaults() -> dict[str, int]:
    from dataclasses import fields

    from hierpretrain.serve.limits import Limits

    return {one.name: one.default for one in fields(Limits)}


def _serve(args: argparse.Namespace) -> None:
    uvicorn, *_ = (needed(name, "a service") for name in ("uvicorn", "fastapi", "python_multipart"))
    import torch

    from hierpretrain.serve import Limits, Service, create_app
    from hierpretrain.serve.guard import LOOPBACK

    away = args.host not in LOOPBACK
    if away and not args.allow_host:
        raise ValueError(
            f"--host {args.host} lets other machines ask; say by which names they reach it: --allow-host NAME ..., or "
            "leave --host out to serve this machine alone"
        )
    limits: Limits = Limits(**{name: value for name in _LIMITS if (value := getattr(args, name)) is not None})
    token = _token(args.token_file)
    listening = _listen(args.host, args.port)
    log_to_standard_error()
    if args.model_threads is not None:
        if args.model_threads < 1:
            raise ValueError(f"--model-threads must be at least 1; it is {args.model_threads}")
        torch.set_num_threads(args.model_threads)
    service = Service(
        args.index,
        image_root=args.image_root,
        uploads=args.uploads,
        token=token,
        limits=limits,
        device=args.device,
        batch_size=args.batch_size,
    )
    app = create_app(service, [*LOOPBACK, *args.allow_host])
    port = listening.getsockname()[1]
    if away:
        print(f"warning: every machine that reaches {args.host}:{port} can search this index", file=sys.stderr)
    changes = "with the token" if token else "off, for there is no token"
    name = f"[{args.host}]" if ":" in args.host else args.host
    what = f"{len(service.index):,} images of {printable(args.index)}"
    print(f"serving {what} at http://{name}:{port}; changes {changes}", flush=True)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        limit_concurrency=8 * limits.requests,
        timeout_graceful_shutdown=limits.seconds,
    )
    uvicorn.Server(config).run(sockets=[listening])


def _token(file: str | None) -> str | None:
    """Returns the token of a file or of the environment; a file that holds none is an error."""
    if file is None:
        return os.environ.get(_TOKEN) or None
    token = Path(file).read_text(encoding="utf-8").strip()
    if not token:
        raise ValueError(f"{file} must hold the token, a line of text; it is empty")
    return token


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise ValueError(f"--port must be from 0 to 65535; it is {port}")
    # asyncio lets answers go at once, and not 40 ms later, only where the protocol is said
    listening = socket.socket(
        socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )
    try:
        if os.name == "posix":  # elsewhere it would let two processes listen
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(512)
        return listening
    except OSError as error:
        listening.close()
        raise OSError(
            f"{host}:{port} cannot be listened at: {error.strerror or error}; give another --host or --port"
        ) from error


if __name__ == "__main__":
    main()
