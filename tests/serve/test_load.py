"""Fifty clients at once: no error, the right answers, and no growth of memory."""

import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pytest
from PIL import Image

from hierpretrain.apis.index import EmbeddingIndex
from tests.commands.test_serve import serving
from tests.serve.conftest import KNOWN, TOKEN, write_index

CLIENTS = 50


def resident(process):
    """Returns the bytes of memory that a process holds."""
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def noise(seed):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to look at memory")
def test_fifty_clients(tmp_path):
    folder = write_index(tmp_path)
    pictures = [noise(seed) for seed in range(CLIENTS)]
    index = EmbeddingIndex.open(folder, device="cpu")
    wanted = [index.search(Image.open(io.BytesIO(picture)), k=3)[0] for picture in pictures]

    def ask(address, number, times):
        with httpx.Client(base_url=address, timeout=120) as client:
            for _ in range(times):
                answer = client.post("/api/search", files=[("images", ("a.png", pictures[number]))], data={"k": 3})
                assert answer.status_code == 200, answer.text
                found = answer.json()["results"][0]["neighbours"]
                scores = [one["score"] for one in found]
                assert scores == pytest.approx([one.score for one in wanted[number].neighbours], abs=1e-5)

    def change(address, done):
        """Adds and removes an image that is far from all queries, as long as others search."""
        with httpx.Client(base_url=address, timeout=120, headers=KNOWN) as client:
            while not done.wait(0.05):
                black = io.BytesIO()
                Image.new("RGB", (8, 8)).save(black, "PNG")
                about = {"about": '[{"key": "black"}]'}
                answer = client.post("/api/add", files=[("images", ("b.png", black.getvalue()))], data=about)
                assert answer.status_code == 200, answer.text
                assert client.post("/api/remove", json={"names": ["black"]}).json()["removed"] == 1

    def storm(address, times):
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(lambda number: ask(address, number, times), range(CLIENTS)))

    with serving(folder, HIERPRETRAIN_TOKEN=TOKEN, OMP_NUM_THREADS="1") as (process, address, _):
        storm(address, 4)
        before = resident(process)
        storm(address, 8)
        assert resident(process) - before < 30e6
        black = index.search(Image.new("RGB", (8, 8)), k=1)[0].neighbours[0].score
        assert black < 0.9  # otherwise it would be among the neighbours that are compared
        done = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            writer = pool.submit(change, address, done)
            try:
                storm(address, 2)
            finally:
                done.set()
            writer.result()


@pytest.mark.slow
def test_what_is_too_much_is_refused_and_nothing_else(tmp_path):
    with serving(write_index(tmp_path), "--max-requests", "4", OMP_NUM_THREADS="1") as (_, address, _):

        def ask(number):
            with httpx.Client(base_url=address, timeout=120) as client:
                answer = client.post("/api/search", files=[("images", ("a.png", noise(number)))])
                return answer.status_code, answer.headers.get("retry-after")

        with ThreadPoolExecutor(CLIENTS) as pool:
            answers = list(pool.map(ask, range(3 * CLIENTS)))
        assert set(answers) == {(200, None), (503, "1")}
