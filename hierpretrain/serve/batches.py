"""Pictures of several requests, embedded together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor

if TYPE_CHECKING:
    from hierpretrain.apis.inferencer import EmbeddingInferencer


class Batches:
    """Embeds pictures in one thread, those of all requests that wait at a time in one batch.

    Nobody waits for a batch to fill: while one is embedded, the next gathers.

    Args:
        inferencer: The model.
    """

    def __init__(self, inferencer: EmbeddingInferencer) -> None:
        self.inferencer = inferencer
        self._thread = ThreadPoolExecutor(1, "embedding")
        self._waiting: list[tuple[Sequence[Image.Image], asyncio.Future[Tensor]]] = []
        self._running: asyncio.Task[None] | None = None

    async def embed(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Returns the (n, D) embeddings of pictures.

        Raises:
            ValueError: If the model cannot embed them.
        """
        done: asyncio.Future[Tensor] = asyncio.get_running_loop().create_future()
        self._waiting.append((pictures, done))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await done

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown()

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.pop(0)]
                count = len(batch[0][0])
                while self._waiting and count + len(self._waiting[0][0]) <= self.inferencer.batch_size:
                    count += len(self._waiting[0][0])
                    batch.append(self._waiting.pop(0))
                await self._embed(batch)
        finally:
            self._running = None

    async def _embed(self, batch: list[tuple[Sequence[Image.Image], asyncio.Future[Tensor]]]) -> None:
        loop = asyncio.get_running_loop()
        pictures = [picture for some, _ in batch for picture in some]
        try:
            found = await loop.run_in_executor(self._thread, lambda: self.inferencer.embed(pictures).features)
            parts = found.split([len(some) for some, _ in batch])  # which fails where the model gave fewer
        except Exception as error:
            if len(batch) > 1:  # one that is at fault shall not take the others with it
                for one in batch:
                    await self._embed([one])
            elif not batch[0][1].done():
                batch[0][1].set_exception(error)
            return
        for part, (_, done) in zip(parts, batch, strict=True):
            if not done.done():  # whoever asked may have gone
                done.set_result(part)
