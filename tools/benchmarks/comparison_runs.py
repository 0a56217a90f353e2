"""The runs of compare.py: what one is, and the file of those that are done."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from comparison import Form, Overrides, Protocol

from hierpretrain.files import in_turn, write_whole

BATCH_SIZE = 64
FIRST = 6  # the methods with more seeds
SEEDS, MORE_SEEDS = (0, 1, 2), (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Run:
    """One training and its evaluation.

    Args:
        method: The name of the row.
        stage: ``'trial'``, ``'final'`` with settings of the search, or ``'given'`` with others.
        seed: The seed.
        options: What the run overrides, beside the row's own options.
        batch_size: Images in a batch.
    """

    method: str
    stage: str
    seed: int
    options: Overrides
    batch_size: int = BATCH_SIZE

    @property
    def key(self) -> str:
        """The run in a line of JSON."""
        return json.dumps([self.method, self.stage, self.seed, self.options, self.batch_size], sort_keys=True)


class Results:
    """The runs that are done, in a file of one line per run.

    Threads and processes may add to one file: it is read again before it is written, whole or not at all.

    Args:
        path: The file, which need not be there yet.

    Raises:
        ValueError: If a line of the file is no run. The last one may be cut off, by a kill or a copy; its run is not
            done then.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self.metrics: dict[str, dict[str, float]] = {}
        self._read()

    def read(self) -> None:
        """Reads the file again, for what other processes have added."""
        with self._lock:
            self._read()

    def _read(self) -> None:
        metrics = {}
        lines = self.path.read_text().splitlines(keepends=True) if self.path.exists() else []
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                metrics[json.dumps(record["run"], sort_keys=True)] = record["metrics"]
            except (ValueError, KeyError, TypeError) as error:
                if number == len(lines) and not line.endswith("\n"):
                    continue
                raise ValueError(f"{self.path}, line {number}: it must be a run and its metrics; remove it") from error
        self.metrics = metrics

    def add(self, run: Run, metrics: Mapping[str, float]) -> None:
        """Keeps the metrics of a run."""
        with self._lock, in_turn(self.path):
            self._read()
            self.metrics[run.key] = dict(metrics)
            self._write()

    def forget(self, method: str) -> None:
        """Drops the runs of a method."""
        with self._lock, in_turn(self.path):
            self._read()
            self.metrics = {key: metrics for key, metrics in self.metrics.items() if json.loads(key)[0] != method}
            self._write()

    def __iter__(self) -> Iterator[tuple[Run, dict[str, float]]]:
        """Yields every run with its metrics."""
        for key, metrics in self.metrics.items():
            yield Run(*json.loads(key)), metrics

    def _write(self) -> None:
        lines = [json.dumps({"run": json.loads(key), "metrics": self.metrics[key]}) for key in sorted(self.metrics)]
        write_whole(self.path, "".join(f"{line}\n" for line in lines).encode())


def in_form(form: Form) -> str:
    """Returns the prefix of metrics of embeddings of a power and a pretrained share."""
    power, share = form
    return f"power_{power:g}" + (f"_share_{share:g}" if share else "")


def best_scores(protocol: Protocol, results: Results) -> dict[str, float]:
    """Returns the score of the best trial of every method that has one, the best method first."""
    scores: dict[str, float] = {}
    for run, metrics in results:
        if run.stage == "trial" and run.batch_size == BATCH_SIZE and run.method in protocol.methods:
            scores[run.method] = max(protocol.score(metrics), scores.get(run.method, 0.0))
    return dict(sorted(scores.items(), key=lambda item: -item[1]))
