import inspect
import itertools

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample

from hierpretrain.evaluation import EmbeddingEvaluator, RetrievalMetric, exchange
from hierpretrain.registry import METRICS
from hierpretrain.taxonomy import Taxonomy
from tests.distributed import run

NUMBER = 61  # so that shares are uneven
PATHS = [(name, name + child) for name, child in itertools.product("abc", "xyz")]
TREE = Taxonomy(PATHS, ("coarse", "fine"))
META = dict(taxonomy=TREE.to_dict(), extra_label_names=("name",), splits=("train", "test"))


def samples(indices, change=None):
    """A collected image for each index, as a model predicts it."""
    generator = torch.Generator().manual_seed(0)
    nodes = torch.randint(len(PATHS), (NUMBER,), generator=generator)
    features = torch.randn(len(PATHS), 6, generator=generator)[nodes] + torch.randn(NUMBER, 6, generator=generator)
    if change is not None:
        change(features)
    labels = TREE.encode([PATHS[node] for node in nodes.tolist()])
    made = []
    for i in indices:
        split = "train" if i % 3 else "test"
        sample = DataSample(metainfo=dict(sample_idx=i, img_path=f"{'deep/' * (i % 5)}{i}.png", split=split))
        sample.set_field(labels[i], "gt_label")
        sample.set_field(nodes[i : i + 1] % 2, "extra_labels")
        sample.set_field(features[i].clone(), "embedding")
        made.append(sample.to_dict())
    return made


def metrics():
    """Every registered metric with all that it can look at, and a part of the images."""
    levels = {"levels": ["coarse", "fine", "name"], "within": [("fine", "coarse")], "train": "train", "test": "test"}
    options = levels | {"ks": (1, 5), "max_anchors": 50, "device": "cpu"}
    METRICS.import_from_location()  # all of ours, whoever was asked for before
    kinds = [kind for kind in METRICS.module_dict.values() if kind.__module__.startswith("hierpretrain.evaluation")]
    every = [
        kind(
            prefix=kind.__name__,
            **{name: options[name] for name in options.keys() & inspect.signature(kind).parameters},
        )
        for kind in kinds
    ]
    return [*every, RetrievalMetric(["fine"], query="test", gallery="train", average_precision=False, prefix="part")]


def evaluate(made, dealt, change=None):
    """Evaluates as a loop does: batch by batch."""
    evaluator = EmbeddingEvaluator(made)
    evaluator.dataset_meta = META
    for start in range(0, len(dealt), 7):
        evaluator.process(samples(dealt[start : start + 7], change))
    return evaluator.evaluate(NUMBER)


def dealt_to(rank, world_size):
    """As a distributed sampler deals: in turn, and the last round filled up from the front."""
    length = -(-NUMBER // world_size)
    return [i % NUMBER for i in range(rank, length * world_size, world_size)]


def check_equal_to_one_process(rank, world_size, expected):
    gathered = []
    gather = exchange._gather
    exchange._gather = lambda own, kinds: gathered.append(1) or gather(own, kinds)
    found = evaluate(metrics(), dealt_to(rank, world_size))
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, rel=0, abs=1e-12)
    assert len(gathered) == 6  # one exchange of six columns for all metrics
    uneven = list(range(NUMBER)) if rank == 0 else []  # a process without any image
    assert evaluate(metrics(), uneven) == pytest.approx(expected, rel=0, abs=1e-12)


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_together_find_what_one_finds(world_size):
    run(check_equal_to_one_process, world_size, evaluate(metrics(), list(range(NUMBER))))


def check_errors(rank, world_size):
    def diverge(features):
        if rank == 1:
            features[:] = torch.nan

    with pytest.raises(ValueError, match=r"must be finite; row \d+ is not"):
        evaluate([RetrievalMetric(["fine"])], dealt_to(rank, world_size), diverge)

    def widen(features):
        if rank == 1:
            features.resize_(NUMBER, 5)

    with pytest.raises(ValueError, match="processes must have embedded images of one shape"):
        evaluate([RetrievalMetric(["fine"])], dealt_to(rank, world_size), widen)
    broken = RetrievalMetric(["fine"])
    if rank == 1:
        broken.asks = lambda: 1 / 0
    error, message = (ZeroDivisionError, "division") if rank == 1 else (ValueError, "process 1 of 2 .*ZeroDivision")
    with pytest.raises(error, match=message):
        evaluate([broken], dealt_to(rank, world_size))
    with pytest.raises(ValueError, match="no embedded image to evaluate"):
        evaluate([RetrievalMetric(["fine"])], [])
    with pytest.raises(ValueError, match="at least one query must have a relevant gallery item; none of 2 has"):
        evaluate([RetrievalMetric(["fine"], query="test")], [[0], [3]][rank])
    # and none is out of step
    assert evaluate([RetrievalMetric(["coarse"])], dealt_to(rank, world_size))["coarse/num_queries"] == NUMBER


def test_an_error_on_one_process_is_one_on_all():
    run(check_errors, 2)


def test_one_process_exchanges_nothing():
    columns = {"embedding": np.zeros((2, 3))}
    assert exchange.gather(lambda: columns) is columns
    assert exchange.on_all(lambda: 3) == [3]
