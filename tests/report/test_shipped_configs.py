"""The headline of a report is what the config measures, to the last digit: for every evaluator of shipped configs."""

import json
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hierpretrain.apis import config_dataset, gather_images, load_config
from hierpretrain.apis.measured import config_metrics
from hierpretrain.engine import MetricsFileHook
from hierpretrain.evaluation import (
    ClusteringMetric,
    EmbeddingEvaluator,
    Embeddings,
    HierarchicalRetrievalMetric,
    RetrievalMetric,
    ViolationMetric,
    measured_searches,
)
from hierpretrain.report import page as page_module
from hierpretrain.report import write_report
from tests.config_trees import write_tree

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))
SHOWN = {"recall@1": "recall@1", "MAP@R": "map@r", "NMI": "nmi", "H-AP": "h_ap", "violations": "violations"}


class Headline(HTMLParser):
    """The numbers of a page by the names that ``metrics.json`` has for them, and the titles of the searches."""

    def __init__(self, text):
        super().__init__()
        self.numbers, self.titles, self.at, self.name = {}, [], None, ""
        self.level = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.at = attributes.get("class") or tag
        if "data-value" in attributes:
            prefix = self.titles[-1].partition(": ")[0] if ": " in self.titles[-1] else ""
            level = "" if self.level == "The whole tree" else self.level
            self.numbers["/".join(filter(None, [prefix, level, SHOWN[self.name]]))] = float(attributes["data-value"])

    def handle_data(self, data):
        if self.at == "search-title":
            self.titles.append(data)
        elif self.at == "h3":
            self.level = data.strip()
        elif self.at == "name":
            self.name = data.strip()
        self.at = None


def embedded(config):
    """The test images of a config, with embeddings that have something to do with their labels."""
    images = gather_images(config_dataset(config))
    rng = np.random.default_rng(0)
    features = rng.normal(size=(len(images.paths), 8))
    paths = images.labels if images.labels.ndim == 3 else images.labels[:, None]
    for level in range(paths.shape[2]):
        features += 0.7 * rng.normal(size=(int(paths.max()) + 2, 8))[paths[:, 0, level].numpy()]
    features = torch.nn.functional.normalize(torch.from_numpy(features).float(), dim=1)
    return Embeddings(
        features,
        images.labels,
        images.extra_labels,
        list(images.splits),
        list(images.paths),
        images.taxonomy,
        tuple(images.extra_names),
        images.extra_values,
    )


def kinds(trees):
    """Every distinct pair of test images and evaluator that shipped configs have: name of the first -> config."""
    found = {}
    for path in CONFIGS:
        config = load_config(path)
        if config.get("test_evaluator"):
            dataset = {key: value for key, value in config.test_dataloader.dataset.items() if key != "pipeline"}
            found.setdefault(repr((dataset, config.test_evaluator)), (path.stem, config))
    for name, config in found.values():
        config.test_dataloader.dataset.update(write_tree(trees, config.test_dataloader.dataset))
        yield name, config


@pytest.mark.slow
def test_the_headline_is_what_metrics_json_says(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(page_module, "positions", lambda features, seed: (np.zeros((len(features), 2), np.float32), ""))
    monkeypatch.setattr(page_module, "plotly_source", str)
    seen = set()
    for name, config in kinds(tmp_path_factory.mktemp("trees")):
        images = embedded(config)
        metrics = config_metrics(config)
        of_headline = (RetrievalMetric, HierarchicalRetrievalMetric, ClusteringMetric, ViolationMetric)
        evaluator = EmbeddingEvaluator([metric for metric in metrics if isinstance(metric, of_headline)])
        evaluator._embeddings = images
        found = evaluator.evaluate(len(images.paths))
        runner = SimpleNamespace(work_dir=str(tmp_path), iter=1, epoch=1)
        MetricsFileHook().after_test_epoch(runner, found)
        said = json.loads((tmp_path / "metrics.json").read_text())["metrics"]

        write_report(images, tmp_path / "report.html", title=name, metrics=metrics, log=str)
        page = Headline((tmp_path / "report.html").read_text(encoding="utf-8"))
        names = {str(level): images.level_name(level) for metric in metrics for level in getattr(metric, "levels", ())}
        wanted = {  # a level may be given by its number
            "/".join(names.get(part, part) for part in key.split("/")): value
            for key, value in said.items()
            if key.rpartition("/")[2] in SHOWN.values()
        }
        assert {key: page.numbers.get(key) for key in wanted} == wanted, name
        searches = measured_searches(metrics)
        assert len(page.titles) == max(1, len(searches)), name
        assert all(("not what the config measures" in title) == (not searches) for title in page.titles), name
        seen |= {key.rpartition("/")[2] for key in wanted}
    assert seen == set(SHOWN.values())
