import json
import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import Compose
from mmengine.evaluator import Evaluator

from hierpretrain.apis import build_runner, load_config
from hierpretrain.datasets import UnreadableImage
from hierpretrain.engine import RecallCurveHook, embedding_loop, fingerprint
from hierpretrain.engine.fingerprint import encoder_fingerprint
from hierpretrain.evaluation import EmbeddingEvaluator, KNNMetric, RetrievalMetric
from hierpretrain.models import HierarchicalContrastive
from hierpretrain.registry import TRANSFORMS
from tests import distributed
from tests.datasets.trees import write_inshop

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def inshop(tmp_path_factory):
    root = tmp_path_factory.mktemp("inshop")
    write_inshop(root, num_products=12, num_views=2, size=32)
    return root


def runner(inshop, work_dir, **options):
    small = {
        "model.backbone.depth": 18,
        "model.backbone.init_cfg": None,
        "test_dataloader.dataset.pipeline.1.size": 32,
        "test_dataloader.dataset.pipeline.2.size": 32,
        "test_dataloader.num_workers": 0,
        "test_dataloader.batch_size": 16,
        "custom_hooks": [dict(type="MetricsFileHook"), dict(type="RecallCurveHook", levels=["product_id", "category"])],
        "test_evaluator": [
            dict(type="RetrievalMetric", levels=["product_id", "category"]),
            dict(type="KNNMetric", levels=["category"], train="train", test="query"),
        ],
        "log_level": "WARNING",
        **options,
    }
    config = load_config(ROOT / "configs/linear_deepfashion.py", small, str(inshop))
    config.work_dir = str(work_dir)
    config.setdefault("experiment_name", f"{Path(work_dir).name}_{time.monotonic_ns()}")  # one name, one run
    torch.manual_seed(0)
    return build_runner(config)


def kept(work_dir):
    return sorted((work_dir / "embeddings").iterdir())


def test_images_are_embedded_once_for_one_encoder_and_once_more_for_another(inshop, tmp_path, monkeypatch):
    first = runner(inshop, tmp_path)
    metrics = first.test()
    (file,) = kept(tmp_path)
    embeddings = torch.load(file, weights_only=True)["embeddings"]
    assert embeddings.shape == (len(first.test_dataloader.dataset), 512)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(len(embeddings)))
    picture = (tmp_path / "recall.csv").read_text()
    assert not first.test_loop.evaluator.keep
    assert first.test_loop.evaluator._embeddings is None  # nothing is held afterwards

    again = runner(inshop, tmp_path)
    again.model.load_state_dict(first.model.state_dict())
    monkeypatch.setattr(type(again.model), "test_step", lambda *_: pytest.fail("the images were embedded again"))
    (tmp_path / "recall.csv").unlink()
    assert again.test() == metrics
    assert (tmp_path / "recall.csv").read_text() == picture
    assert json.loads((tmp_path / "metrics.json").read_text())["metrics"] == metrics
    monkeypatch.undo()

    other = runner(inshop, tmp_path)
    other.model.load_state_dict(first.model.state_dict())
    with torch.no_grad():
        other.model.backbone.conv1.weight[0, 0, 0, 0] += 1
    other.test()
    assert len(kept(tmp_path)) == 2
    cropped = runner(inshop, tmp_path, **{"test_dataloader.dataset.pipeline.2.size": 24})
    cropped.model.load_state_dict(first.model.state_dict())
    cropped.test()
    fewer = runner(inshop, tmp_path, **{"test_dataloader.dataset.split": ["query", "gallery"], "test_evaluator": []})
    fewer.model.load_state_dict(first.model.state_dict())
    fewer.test()
    assert len(kept(tmp_path)) == 4


def test_metrics_pictures_and_the_file_get_one_object(inshop, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(RecallCurveHook, "draw", lambda hook, embedded, path, measured: seen.append(embedded))
    monkeypatch.setattr(embedding_loop, "_save", lambda path, embedded: seen.append(embedded))
    for metric in (RetrievalMetric, KNNMetric):

        def observed(metric, embedded, shard, work=metric.map):
            seen.append(embedded)
            return work(metric, embedded, shard)

        monkeypatch.setattr(metric, "map", observed)
    first = runner(inshop, tmp_path)
    assert isinstance(first.test_loop.evaluator, EmbeddingEvaluator)
    first.test()
    assert len(seen) == 4
    assert all(embedded is seen[0] for embedded in seen)


@pytest.mark.parametrize("cache", [None, "embeddings"])
def test_what_mmengine_s_own_evaluator_measures_is_the_same(inshop, tmp_path, cache):
    first = runner(inshop, tmp_path, **{"test_cfg.cache": cache})
    first.test_loop.evaluator = Evaluator(first.test_loop.evaluator.metrics)
    first.test_loop.evaluator.dataset_meta = first.test_dataloader.dataset.metainfo
    metrics = first.test()
    again = runner(inshop, tmp_path / "again")
    again.model.load_state_dict(first.model.state_dict())
    assert again.test() == metrics


def test_an_evaluator_of_one_s_own_cannot_have_pictures(inshop, tmp_path):
    class Mine(Evaluator):
        pass

    first = runner(inshop, tmp_path)
    first.test_loop.evaluator = Mine([])
    with pytest.raises(ValueError, match=r"pictures and kept embeddings need an EmbeddingEvaluator, not Mine: write"):
        first.test()


def test_the_curve_is_that_of_the_metric(inshop, tmp_path):
    metrics = runner(inshop, tmp_path).test()
    header, first, *rest = (tmp_path / "recall.csv").read_text().splitlines()
    assert header == "k,product_id,category"
    number = metrics["product_id/recall@1"]
    assert float(first.split(",")[1]) == pytest.approx(number, abs=1e-6)
    assert float(rest[8].split(",")[2]) == pytest.approx(metrics["category/recall@10"], abs=1e-6)
    assert (tmp_path / "recall.png").stat().st_size > 5000


def test_a_picture_that_cannot_be_drawn_costs_no_metrics(inshop, tmp_path, capsys):
    both = [dict(type="MetricsFileHook"), dict(type="RetrievalSheetHook", query="query", gallery=["query", "gallery"])]
    metrics = runner(inshop, tmp_path, custom_hooks=both).test()
    assert metrics
    assert json.loads((tmp_path / "metrics.json").read_text())["metrics"] == metrics
    said = "queries and gallery must be different splits here, or one and the same; ['query'] are of both"
    assert f"retrieval.png was not drawn: {said}" in capsys.readouterr().out
    alone = runner(inshop, tmp_path, custom_hooks=both[1:], test_evaluator=[])  # the picture is all that is asked for
    with pytest.raises(ValueError, match=re.escape(said)):
        alone.test()


def test_without_a_cache_nothing_is_kept(inshop, tmp_path):
    runner(inshop, tmp_path, **{"test_cfg.cache": None}).test()
    assert not (tmp_path / "embeddings").exists()


def test_a_damaged_file_is_named(inshop, tmp_path):
    first = runner(inshop, tmp_path)
    first.test()
    (file,) = kept(tmp_path)
    file.write_bytes(file.read_bytes()[:1000])
    again = runner(inshop, tmp_path)
    again.model.load_state_dict(first.model.state_dict())
    with pytest.raises(ValueError, match=rf"kept embeddings .*{file.name} are damaged: .*; delete the file"):
        again.test()


def test_an_option_that_shows_in_the_config_alone_makes_another_encoder(inshop, tmp_path):
    first = runner(inshop, tmp_path)
    first.test()
    other = runner(inshop, tmp_path, **{"model.backbone.out_indices": (2,), "test_evaluator": []})
    other.model.load_state_dict(first.model.state_dict())
    other.test()
    assert len(kept(tmp_path)) == 2


def test_another_power_makes_other_embeddings_and_power_1_keeps_the_names_of_older_files(inshop, tmp_path):
    plain = runner(inshop, tmp_path)
    about = (plain.cfg.model, plain.test_dataloader.dataset._pipeline, "backbone", False)  # as before there was a power
    images = plain.test_dataloader.dataset.image_paths
    older = encoder_fingerprint(plain.model, ["backbone", "neck"], *about, images=images)
    measured = plain.test()
    (first,) = kept(tmp_path)
    assert first.stem == older
    powers = runner(inshop, tmp_path, **{"model.power": 0.5})
    powers.model.load_state_dict(plain.model.state_dict())
    assert powers.test() != measured
    (second,) = set(kept(tmp_path)) - {first}
    own, other = (torch.load(file, weights_only=True)["embeddings"] for file in (first, second))
    raised = own.sign() * own.abs() ** 0.5
    torch.testing.assert_close(other, raised / raised.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("place", [5, -1])
def test_an_image_that_was_skipped_is_missing_from_what_is_kept(inshop, tmp_path, place):
    root = tmp_path / "broken"
    shutil.copytree(inshop, root)
    options = {"test_dataloader.dataset.on_error": "skip"}
    dataset = runner(root, tmp_path, **options).test_dataloader.dataset
    Path(dataset.image_paths[place]).write_bytes(b"\xff\xd8\xff no image")
    first = runner(root, tmp_path, **options)
    metrics = first.test()
    (file,) = kept(tmp_path)
    rows = torch.load(file, weights_only=True)["rows"].tolist()
    assert sorted({*range(len(dataset))} - {*rows}) == [place % len(dataset)]
    again = runner(root, tmp_path, **options)
    again.model.load_state_dict(first.model.state_dict())
    again.model.test_step = None  # it would be called if the images were embedded again
    assert again.test() == metrics


def _on_two_processes(rank, world_size, inshop, work_dir, expected):
    """Embeds, then evaluates what was kept, then once more with the file hidden from one process."""
    os.environ["LOCAL_RANK"] = str(rank)
    for run in range(3):
        if run == 2 and rank == 1:
            Path.exists = lambda path: False
        made = runner(inshop, work_dir, launcher="pytorch", experiment_name=f"two_{run}")
        assert made.test() == pytest.approx(expected), run


@pytest.mark.ddp
def test_two_processes_keep_and_use_the_same_as_one(inshop, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    expected = runner(inshop, tmp_path / "one").test()
    distributed.run(_on_two_processes, 2, inshop, tmp_path / "two", expected)
    one, two = (torch.load(kept(tmp_path / name)[0], weights_only=True) for name in ("one", "two"))
    assert torch.equal(one["rows"], two["rows"])
    torch.testing.assert_close(one["embeddings"], two["embeddings"])


def test_a_transform_that_does_not_say_its_options_is_refused():
    class Mine:
        def __call__(self, results):
            return results

    model = HierarchicalContrastive(dict(type="ResNet", depth=18, base_channels=8, stem_channels=8))
    with pytest.raises(
        ValueError, match=r"<.*Mine object at 0x.*> does not say its options, .* give its class a __repr__"
    ):
        encoder_fingerprint(model, ["backbone"], None, [Mine()])


def test_options_that_no_repr_says_make_another_encoder():
    model = HierarchicalContrastive(dict(type="ResNet", depth=18, base_channels=8, stem_channels=8))

    def named(*transforms):
        pipeline = Compose([TRANSFORMS.build({"_scope_": "hierpretrain", **options}) for options in transforms])
        return encoder_fingerprint(model, ["backbone"], None, pipeline)

    one = dict(type="torchvision/RandomPerspective", distortion_scale=0.1)
    other = dict(one, distortion_scale=0.9)
    assert repr(TRANSFORMS.build(one)) == repr(TRANSFORMS.build(other))
    assert named(one) == named(one) != named(other)
    views = [dict(type="Views", transforms=[inner], num_views=2) for inner in (one, other)]
    assert named(views[0]) != named(views[1])
    dtypes = [dict(type="torchvision/ConvertImageDtype", dtype=name) for name in ("float", "uint8")]
    assert named(dtypes[0]) != named(dtypes[1])


def test_images_are_told_apart_by_place_size_and_time(tmp_path, monkeypatch):
    model = HierarchicalContrastive(dict(type="ResNet", depth=18, base_channels=8, stem_channels=8))

    def named(*images):
        return encoder_fingerprint(model, ["backbone"], None, [], images=images)

    for project in ("one", "two"):
        (tmp_path / project / "photos").mkdir(parents=True)
        (tmp_path / project / "photos/1.png").write_bytes(b"old")
        os.utime(tmp_path / project / "photos/1.png", ns=(0, 10**9))
    monkeypatch.chdir(tmp_path / "one")
    first = named("photos/1.png")
    assert named(str(tmp_path / "one/photos/1.png")) == first
    monkeypatch.chdir(tmp_path / "two")
    assert named("photos/1.png") != first
    names = {first}
    for content, seconds in ((b"newer", 1), (b"old", 2)):
        Path(tmp_path / "one/photos/1.png").write_bytes(content)
        os.utime(tmp_path / "one/photos/1.png", ns=(0, seconds * 10**9))
        names.add(named(str(tmp_path / "one/photos/1.png")))
    assert len(names) == 3
    inside = ["photos.tar/a/1.png", "photos.tar/2.png"]  # of an archive, as WebDataset names them
    Path("photos.tar").write_bytes(b"archive")
    before = named(*inside)
    assert named(*inside) == before
    Path("photos.tar").write_bytes(b"another archive")
    assert named(*inside) != before
    table = "tables/datasets:0123/1"  # as of a table, which is known by its own fingerprint
    Path("tables").mkdir()
    assert named(before_dirs := table) != named("tables/datasets:0123/2")
    first = named(table)
    Path("tables/other.txt").write_text("x")
    assert named(before_dirs) == first
    monkeypatch.chdir(tmp_path)
    assert named(table) == first


def test_values_of_arrays_and_circles_are_told():
    class Part:
        def __init__(self, value):
            self.value, self.itself = value, self

    long = np.zeros(5000)
    changed = long.copy()
    changed[2500] = 1
    assert repr(long) == repr(changed)
    assert fingerprint._settings(Part(long)) != fingerprint._settings(Part(changed))
    assert fingerprint._settings(Part(torch.from_numpy(long))) == fingerprint._settings(Part(long))
    assert fingerprint._settings(Part({"b": 1, "a": {3, 2}})) == fingerprint._settings(Part({"a": {2, 3}, "b": 1}))


def test_a_part_says_itself_what_it_is_made_of():
    class Part:
        def __init__(self, kept, path):
            self.kept, self.path = kept, path

    class Mapped(Part):
        def __getstate__(self):
            return {**self.__dict__, "kept": None}

    told = fingerprint._settings
    assert told(Mapped(np.zeros(3), "a")) == told(Mapped(np.ones(3), "a")) != told(Mapped(np.ones(3), "b"))
    assert told(Part(np.zeros(3), "a")) != told(Part(np.ones(3), "a"))


@pytest.mark.parametrize("mended", [True, False])
def test_an_image_that_was_skipped_is_embedded_when_it_is_whole_and_an_error_where_none_may_be_skipped(
    inshop, tmp_path, mended
):
    root = tmp_path / "broken"
    shutil.copytree(inshop, root)

    def made(on_error):
        return runner(root, tmp_path, **{"test_dataloader.dataset.on_error": on_error})

    broken = Path(made("skip").test_dataloader.dataset.image_paths[0])
    whole = broken.read_bytes()
    time_before = broken.stat().st_mtime_ns
    broken.write_bytes(b"\xff\xd8\xff".ljust(len(whole)))
    if not mended:  # the same file could not be read for a while
        os.utime(broken, ns=(time_before, time_before))
    state = (first := made("skip")).model.state_dict()
    first.test()
    (file,) = kept(tmp_path)
    strict = made("error")
    strict.model.load_state_dict(state)
    with pytest.raises(UnreadableImage, match=re.escape(f"{broken}")):
        strict.test()
    broken.write_bytes(whole)
    os.utime(broken, ns=(time_before, time_before))
    again = made("skip")
    again.model.load_state_dict(state)
    again.test()
    (newest,) = set(kept(tmp_path)) - {file} if mended else kept(tmp_path)
    rows = torch.load(newest, weights_only=True)["rows"].tolist()
    assert sorted(rows) == list(range(len(again.test_dataloader.dataset)))
