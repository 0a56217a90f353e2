"""What a training step on many GPUs takes, by counting: the formulas of the page docs/benchmarks/scaling.md.

W processes have M rows (images x views) in all, m = M / W each, of D numbers. A process

- encodes its own m rows, forward and backward;
- gathers the M rows of all (``all_gather``), and in backward sums the gradients that all send (``reduce_scatter``);
- compares its own m rows with all M: m x M pairs;
- sums the gradients of its weights with all others (``all_reduce``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FLOAT, LABEL = 4, 8  # bytes
HELD_PAIRS = 1 << 20  # up to so many, similarities are kept for backward
GPU_CHUNK = 256 * 2**20  # bytes of similarities that a GPU holds at a time


@dataclass(frozen=True)
class Encoder:
    """What is known of an encoder.

    Attributes:
        name: For the page.
        flops: Floating-point operations of a forward pass of one image, a multiplication and an addition being two.
        parameters: Number of weights.
        activations: Bytes that one image keeps for backward.
        pixels: Side of an image.
    """

    name: str
    flops: float
    parameters: float
    activations: float
    pixels: int


@dataclass(frozen=True)
class Hardware:
    """Rates that a process comes to, not the peaks of a data sheet.

    Attributes:
        encoder: FLOP/s of the encoder.
        matmul: FLOP/s of the products of the loss, in float32.
        passes: Bytes/s of operations on each similarity.
        rows: Bytes/s of sums and look-ups of whole rows.
        labels: Labels/s that are numbered as nodes of their tree, by sorting.
        start: Seconds that the operations of the loss take however small they are.
        link: Bytes/s of a process to the others of its machine.
        network: Bytes/s out of a machine, for all its processes together.
        per_machine: Processes on a machine.
        latency: Seconds of one message.
        memory: Bytes that a process may hold.
    """

    encoder: float
    matmul: float
    passes: float
    rows: float
    labels: float
    start: float
    link: float
    network: float
    per_machine: int
    latency: float
    memory: float = float("inf")


def ring_seconds(size: float, processes: int, hardware: Hardware) -> float:
    """Returns the seconds of an ``all_gather`` or a ``reduce_scatter`` of ``size`` bytes, of all processes together.

    Each byte but the own ones comes to each process, by its link, and to each machine, by its network.

    Example:
        >>> hardware = Hardware(1, 1, 1, 1, 1, 0, link=4.0, network=1.0, per_machine=2, latency=0.0)
        >>> ring_seconds(8.0, 1, hardware), ring_seconds(8.0, 2, hardware), ring_seconds(8.0, 4, hardware)
        (0.0, 1.0, 6.0)
    """
    if processes == 1:
        return 0.0
    slowest = hardware.link if processes <= hardware.per_machine else min(hardware.link, hardware.network)
    return size * (processes - 1) / processes / slowest + (processes - 1) * hardware.latency


def loss_flops(own: float, rows: float, dim: int) -> float:
    """Counts the products of HiMulCon's loss: forward one, backward the same again and two for the gradients.

    Example:
        >>> loss_flops(2048, 2048, 1) / (2048 * 2048), loss_flops(1024, 1024, 1) / (1024 * 1024)
        (8.0, 6.0)
    """
    return (6 if own * rows <= HELD_PAIRS else 8) * own * rows * dim


def pass_bytes(own: float, rows: float) -> float:
    """Counts the bytes of similarities that are read and written.

    Forward: written (1), maximum (1), less the maximum (2), exponential (2), sum (1). Backward the first, third and
    fourth once more, unless they are held, and a reading for each of the two gradients.
    """
    return (9 if own * rows <= HELD_PAIRS else 14) * FLOAT * own * rows


def row_bytes(own: float, rows: float, dim: int, levels: int) -> float:
    """Counts the bytes of rows that are read and written: the sums below each node of a level, and what is done once.

    These are over all rows on each process. Forward, a level sets the sums to 0 (1), adds the rows up (3) and looks
    the own ones up (3 of the own). Backward it does so again, and for the gradients sets to 0 (1), adds the own rows up
    (3 of the own), looks up (2) and adds (3). Once: two checks (2), two gradients joined (3) and copied (2).
    """
    return FLOAT * dim * (levels * (14 * rows + 12 * own) + 7 * rows)


def unshared_seconds(hardware: Hardware, processes: int, rows: float, dim: int, levels: int) -> float:
    """Returns the seconds of a loss that do not become fewer with more processes: of all rows and all labels."""
    of_rows = row_bytes(rows / processes, rows, dim, levels) / hardware.rows
    return of_rows + rows * levels / hardware.labels


def step_seconds(
    encoder: Encoder, hardware: Hardware, processes: int, rows: float, dim: int, levels: int, *, grad_cache: bool
) -> dict[str, float]:
    """Returns the seconds of the parts of a step: ``encode``, ``exchange``, ``loss`` and ``reduce``.

    Args:
        encoder: The encoder.
        hardware: The rates.
        processes: W.
        rows: M, images x views of all processes.
        dim: D, numbers of a row.
        levels: L, of the labels.
        grad_cache: Whether each image is encoded a second time in backward.
    """
    own, features = rows / processes, rows * dim * FLOAT
    small = 4 * (processes - 1) * hardware.latency  # shapes, and the sums over all anchors forward and backward
    labels = ring_seconds(rows * levels * LABEL, processes, hardware)
    of_pairs = loss_flops(own, rows, dim) / hardware.matmul + pass_bytes(own, rows) / hardware.passes
    return {
        "encode": (4 if grad_cache else 3) * encoder.flops * own / hardware.encoder,
        "exchange": 2 * ring_seconds(features, processes, hardware) + labels + small,
        "loss": of_pairs + unshared_seconds(hardware, processes, rows, dim, levels) + hardware.start,
        "reduce": 2 * ring_seconds(encoder.parameters * FLOAT, processes, hardware),
    }


def memory_bytes(
    encoder: Encoder, processes: int, rows: float, dim: int, *, at_a_time: float | None = None
) -> dict[str, float]:
    """Returns the bytes of a process: ``weights``, ``images``, ``activations``, ``rows`` and ``similarities``.

    Args:
        encoder: The encoder.
        processes: W.
        rows: M.
        dim: D.
        at_a_time: Images that are encoded at a time with gradient caching; ``None``: all.

    Adam holds four numbers for a weight: itself, its gradient and two means. Of the M gathered rows there are four
    copies at most: themselves and, in backward, their gradient, the sums below their nodes, and what is looked up of
    these.
    """
    own = rows / processes
    return {
        "weights": 4 * FLOAT * encoder.parameters,
        "images": own * 3 * encoder.pixels**2,
        "activations": encoder.activations * (own if at_a_time is None else min(own, at_a_time)),
        "rows": 4 * rows * dim * FLOAT,
        "similarities": min(GPU_CHUNK, own * rows * FLOAT),
    }


def ring_saves(seconds: Mapping[str, float], processes: int, rows: float, dim: int) -> tuple[float, float]:
    """Returns the seconds and the bytes that passing the rows round in a ring would save at most.

    The exchange would be hidden behind the loss, but for what is sent beyond today's: in backward, the rows go round
    again beside their gradients. A process would hold its own rows and gradients, those on their way in, and out.
    """
    hidden = min(seconds["exchange"], max(0.0, seconds["loss"] - 0.5 * seconds["exchange"]))
    return hidden, max(0.0, (4 * rows - 6 * rows / processes) * dim * FLOAT)
