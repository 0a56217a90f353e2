"""Times searches by a service beside the bare encoder: one client, then many at a time.

The index has random vectors, with labels, keys and metadata; the images are noise, as JPEG, and the encoder is an
untrained MobileNetV3 (small): times do not depend on either. A latency is what a client waits, from sending an image to
having the ten neighbours; the service runs in a process of its own, and shares the processors with the clients. The
limit is the encoder alone, on one image that is decoded and prepared. Fifty clients that always have a search under way
wait at least fifty times as long.

Examples:
    python tools/benchmarks/serve.py
    python tools/benchmarks/serve.py --images 1000 --searches 20 --clients 4
"""

from __future__ import annotations

import http.client
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from index_changes import encoder, random_vectors, write_images
from measure import ROOT, Report, command, parse
from PIL import Image

from hierpretrain.apis import EmbeddingInferencer

LIMIT = "limit: the bare encoder, one image"
_BOUNDARY = "b7d5a1c3e9f0"


@contextmanager
def serving(index: str, threads: int) -> Iterator[int]:
    """Runs the service, and gives the port at which it listens."""
    words = [sys.executable, "-m", "hierpretrain", "serve", index, "--port", "0", "--device", "cpu"]
    process = subprocess.Popen([*words, "--model-threads", str(threads)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the service did not start; see above")
        yield int(line.partition("127.0.0.1:")[2].partition(";")[0])
    finally:
        process.terminate()
        process.wait()


def body(picture: bytes) -> bytes:
    """Returns a request for the neighbours of an image, as a form."""
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n\r\n'
    return head.encode() + picture + f"\r\n--{_BOUNDARY}--\r\n".encode()


def latencies(port: int, bodies: Sequence[bytes], clients: int, searches: int) -> tuple[list[float], float]:
    """Searches with a number of clients, each of which waits for its answer before it asks again.

    Returns:
        The seconds of each search, and of all of them together.

    Raises:
        RuntimeError: If one is not answered.
    """

    def client(number: int) -> list[float]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        seconds = []
        for turn in range(searches):
            start = time.perf_counter()
            kind = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
            connection.request("POST", "/api/search", bodies[(number + turn) % len(bodies)], kind)
            answer = connection.getresponse()
            text = answer.read()
            seconds.append(time.perf_counter() - start)
            if answer.status != 200:
                raise RuntimeError(f"the service answered with {answer.status}: {text[:300]!r}")
        connection.close()
        return seconds

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        found = list(pool.map(client, range(clients)))
    return [one for of_client in found for one in of_client], time.perf_counter() - start


def bare(inferencer: EmbeddingInferencer, files: Sequence[Path], searches: int) -> float:
    """Returns the seconds that the encoder takes for an image, which is decoded and prepared."""
    module = inferencer.module
    pictures = [inferencer.pipeline(Image.open(file).convert("RGB")) for file in files]
    seconds = []
    with torch.no_grad():
        for turn in range(searches + 3):
            start = time.perf_counter()
            module.embed(module.data_preprocessor({"inputs": [pictures[turn % len(pictures)]]})["inputs"])
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[3:])


def main() -> None:
    """Runs the comparison, prints it and saves it on request."""
    parser = command(__doc__)
    parser.set_defaults(rounds=3)
    parser.add_argument("--images", type=int, default=100_000, help="of the index")
    parser.add_argument("--side", type=int, default=224, help="pixels of a side of a query")
    parser.add_argument("--clients", type=int, default=50, help="clients at a time")
    parser.add_argument("--searches", type=int, default=200, help="of one client in a round; of many, each a tenth")
    args = parse(parser)
    report = Report("serve", "A service: how long a search takes", "images")
    inferencer = encoder(args.side)
    with tempfile.TemporaryDirectory() as place:
        index = inferencer.build_index(random_vectors(args.images, inferencer.width), f"{place}/index")
        width = index.width
        del index
        files = []
        for file in sorted(write_images(Path(place, "queries"), 16, args.side, 1).iterdir()):
            files.append(file.with_suffix(".jpg"))
            Image.open(file).save(files[-1], quality=90)
        bodies = [body(file.read_bytes()) for file in files]
        many, each = f"{args.clients} clients", max(1, args.searches // 10)
        names = [LIMIT, "1 client, p50", "1 client, p99", f"{many}, p50", f"{many}, p99", f"{many}, seconds a search"]
        seconds: dict[str, list[float]] = {name: [] for name in names}
        with serving(f"{place}/index", torch.get_num_threads()) as port:
            latencies(port, bodies, args.clients, 1)  # warm
            for _ in range(args.rounds):
                one, _ = latencies(port, bodies, 1, args.searches)
                some, total = latencies(port, bodies, args.clients, each)
                found = [bare(inferencer, files, args.searches)]
                for waited in (one, some):
                    found += np.percentile(waited, [50, 99]).tolist()
                for name, value in zip(names, [*found, total / len(some)], strict=True):
                    seconds[name].append(value)
        case = {"images": args.images, "dim": width, "side": args.side}
        report.add(case, seconds, against=LIMIT)
    report.save(args.save)


if __name__ == "__main__":
    main()
