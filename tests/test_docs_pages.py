"""What the how-to pages of docs/ say is so: their files run, their messages exist, their lists are complete."""

import ast
import csv
import importlib
import inspect
import io
import json
import pkgutil
import re
import runpy
import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import Registry
from setuptools import Distribution

import hierpretrain.apis
from hierpretrain import registry
from hierpretrain.apis import build_runner, load_config
from hierpretrain.apis.config import MMENGINE_HOOKS
from hierpretrain.apis.encoder_settings import apply_encoder_settings
from hierpretrain.datasets import FolderDataset, ListDataset
from hierpretrain.evaluation import Embeddings
from hierpretrain.models import EfficientNetLite0, HierarchicalContrastive
from hierpretrain.models.frozen_part import FrozenPart
from hierpretrain.registry import DATASETS, HOOKS, METRICS, MODELS
from hierpretrain.taxonomy import PAD, Taxonomy
from tests.datasets.trees import write_image
from tests.test_docs import PAGES, ROOT, blocks, commands, spans, written

API = ROOT / "docs/api"
CONF = runpy.run_path(str(ROOT / "docs/conf.py"))
TABLE_CELL = re.compile(r"\d+\.\d ± \d+\.\d")


# ------------------------------------------------------------------ docs/index.md and docs/api/
def entries():
    """Yields the folder and the name of every entry of the toctrees."""
    for page in PAGES:
        for tree in re.findall(
            r"^```\{toctree\}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        ):
            for line in tree.splitlines():
                if line and not line.startswith(":"):
                    yield page.parent, line.split("<")[-1].rstrip(">").strip()


def test_every_page_is_in_one_table_of_contents():
    notebooks = [*(ROOT / "docs").glob("*.ipynb")]
    listed = [folder / f"{name}.md" for folder, name in entries()]
    listed = [page.with_suffix(".ipynb") if page.with_suffix(".ipynb") in notebooks else page for page in listed]
    for readme in (page for page in listed if page.name == "README.md"):  # conf.py hangs its folder below it
        listed = [*listed, *(page for page in sorted(readme.parent.glob("*.md")) if page != readme)]
    assert sorted(listed) == sorted({*PAGES, *notebooks} - {ROOT / "docs/index.md"})


def directives(text):
    """Yields the argument and the options of every ``{public}`` of a page."""
    for package, options in re.findall(r"^```\{public\} ([\w.]+)\n((?::.+\n)*)```$", text, re.MULTILINE):
        yield package, {name: values.split() for name, values in re.findall(r":([\w-]+): (.+)", options)}


def api_text(page):
    """Returns a page of the API with the text that stands for each of its ``{public}``."""
    text, done = page.read_text(encoding="utf-8"), []
    for package, options in directives(text):
        modules = options.get("modules", [])
        text += "\n" + CONF["public"](package, modules, done, options.get("no-members", []))
        done += modules
    return text


def documented():
    """Returns the names that the API pages have, each with its module."""
    names = []
    for page in API.glob("*.md"):
        module = ""
        for line in api_text(page).splitlines():
            if match := re.match(r"\.\. (currentmodule|auto(?!module)\w+):: ([\w.]+)", line):
                module, name = (match[2], "") if match[1] == "currentmodule" else (module, match[2])
                names += [f"{module}.{name}"] if name else []
    return names


def public_packages():
    """Yields the packages and modules that say, by ``__all__``, what is public."""
    for found in pkgutil.iter_modules(hierpretrain.__path__, "hierpretrain."):
        if not found.name.rpartition(".")[2].startswith("_"):
            module = importlib.import_module(found.name)
            if hasattr(module, "__all__"):
                yield module


def test_every_public_name_is_on_one_api_page():
    listed = documented()
    assert len(set(listed)) == len(listed)
    public = {f"{module.__name__}.{name}" for module in public_packages() for name in module.__all__}
    assert len(public) > 150
    assert {name for name in listed if not name.startswith("hierpretrain.taxonomy.")} == public


def test_every_section_is_about_a_module_that_there_is():
    modules = [name for page in API.glob("*.md") for name in re.findall(r"automodule:: ([\w.]+)", api_text(page))]
    assert {"hierpretrain.models.losses", "hierpretrain.models.encoders.timm_encoder"} <= set(modules)
    for name in modules:
        assert inspect.getdoc(importlib.import_module(name)), name


def test_a_public_name_of_no_listed_module_would_be_noticed(monkeypatch):
    monkeypatch.setattr(hierpretrain.apis, "__all__", [*hierpretrain.apis.__all__, "branches"])
    monkeypatch.setattr(hierpretrain.apis, "branches", lambda: None)
    public = {f"hierpretrain.apis.{name}" for name in hierpretrain.apis.__all__}
    assert public - set(documented()) == {"hierpretrain.apis.branches"}


def test_a_module_without_public_names_cannot_be_listed():
    with pytest.raises(ValueError, match=r"nothing public in branches; it has _inheritance, answering, answers, c"):
        CONF["public"]("hierpretrain.apis", ["branches"])


def test_what_mmengine_alone_calls_is_listed_without_members():
    """To autodoc the option ``inherited-members``, a default in conf.py, asks for all members by itself."""
    alone = r"\n   :no-members:\n   :no-inherited-members:\n"
    assert re.search(rf"autoclass:: RetrievalMetric{alone}", api_text(API / "evaluation.md"))
    assert re.search(r"autoclass:: EmbeddingMetric\n\.\. ", api_text(API / "evaluation.md"))  # those of its subclasses
    text = api_text(API / "engine.md")
    hooks = re.findall(r"autoclass:: (\w+Hook)\n", text)
    assert hooks == re.findall(rf"autoclass:: (\w+Hook){alone}", text)
    assert len(hooks) > 5


def test_every_public_name_has_a_docstring():
    for name in documented():
        thing = pkgutil.resolve_name(name)
        assert not callable(thing) or inspect.getdoc(thing), name


def test_every_registry_of_ours_is_listed():
    listed = re.findall(r"^## `(\w+)`.*\n\n```\{registered\} \1\n```$", (API / "registry.md").read_text(), re.MULTILINE)
    ours = []
    for title, known in vars(registry).items():
        if isinstance(known, Registry):
            known.import_from_location()
            kinds = [kind for kind in known.module_dict.values() if kind.__module__.startswith("hierpretrain.")]
            assert all(inspect.getdoc(kind) for kind in kinds)
            ours += [title] * bool(kinds)
    assert sorted(listed) == sorted(ours)


def test_external_links_are_well_formed():
    for page in PAGES:
        for target in re.findall(r"\]\((https?:[^)\s]*)\)", page.read_text(encoding="utf-8")):
            assert re.fullmatch(r"https?://[\w-]+(\.[\w-]+)+(/[\w./?=&%#~+-]*)?", target), (page.name, target)


# ------------------------------------------------------------------ docs/install.md
def requirement_names(requirements):
    """Returns the names of packages without their versions."""
    return {re.split(r"[<>=!~\[; ]", requirement)[0] for requirement in requirements}


@pytest.fixture
def setup_arguments(monkeypatch):
    given = {}
    monkeypatch.setattr("setuptools.setup", lambda **options: given.update(options) or Distribution(options))
    monkeypatch.chdir(ROOT)
    exec(compile((ROOT / "setup.py").read_text(encoding="utf-8"), "setup.py", "exec"), {"__file__": "setup.py"})
    return given


def test_the_extras_are_those_of_setup(setup_arguments):
    rows = [line for line in (ROOT / "docs/install.md").read_text().splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])} == set(
        setup_arguments["extras_require"]
    )


def test_beside_the_forks_stand_the_other_requirements_of_setup(setup_arguments):
    (text,) = [text for text in blocks(ROOT / "docs/install.md", "bash") if "onedl-mmengine" in text]
    installed = set(" ".join(re.findall(r"pip install ([^-].*)", text)).split())
    originals = {"mmengine", "mmcv-lite", "mmpretrain"}
    forks = {"onedl-mmengine", "onedl-mmcv", "onedl-mmpretrain"}
    assert installed - forks == requirement_names(setup_arguments["install_requires"]) - originals


# ------------------------------------------------------------------ docs/your_data.md
DATA = ROOT / "docs/your_data.md"


@pytest.fixture
def own_data(tmp_path, monkeypatch):
    """Goes to a folder with the images, lists and configs of the page."""
    for photos in ("my/photos", "my/other_photos"):
        for path in blocks(DATA, "text")[0].replace("my/photos", photos).split():
            write_image(tmp_path / path, "red")
    for kind in ("csv", "json", "jsonl"):
        (tmp_path / f"my/photos/images.{kind}").write_text(blocks(DATA, kind)[0])
    written(DATA, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def build(loader):
    """Builds the data set of a config's loader."""
    return DATASETS.build({**loader.dataset, "_scope_": "hierpretrain"})


def names_of(dataset):
    """Returns the label paths of a data set's images."""
    return [dataset.taxonomy.decode(row) for row in dataset.labels]


def test_the_folder_tree_is_read_as_it_says(own_data):
    config = load_config("folder.py")
    apply_encoder_settings(config)
    dataset = build(config.train_dataloader)
    files = blocks(DATA, "text")[0].split()
    assert sorted(zip(dataset.image_paths, names_of(dataset), strict=True)) == sorted(
        (path, tuple(path.split("/")[2:-1])) for path in files
    )
    assert dataset.taxonomy.level_names == ("level1", "level2", "level3")
    assert dataset.splits == ["all"] * 7
    assert len(build(config.val_dataloader)) == 7


def test_the_tree_of_one_folder_serves_another(own_data):
    (own_data / "my/other_photos/animal/cat/tabby/3.jpg").unlink()
    (code,) = [text for text in blocks(DATA, "python") if ".save(" in text]
    exec(code, {})
    other = FolderDataset(data_root="my/other_photos", taxonomy="photos.json")
    assert other.taxonomy == FolderDataset(data_root="my/photos").taxonomy


def test_two_folders_are_one_data_set_of_one_tree(own_data):
    write_image(own_data / "my/other_photos/animal/owl/8.jpg", "red")
    config = load_config("both.py")
    apply_encoder_settings(config)
    dataset = build(config.train_dataloader)
    assert len(dataset) == 7 + 8
    assert set(names_of(dataset)[7:]) - set(names_of(dataset)[:7]) == {("animal", "owl")}


@pytest.mark.parametrize(("kind", "images"), [("csv", [5, 2]), ("json", [2, 2]), ("jsonl", [2, 2])])
def test_each_list_is_read_as_it_says(kind, images, own_data):
    config = load_config(f"list_{kind}.py")
    apply_encoder_settings(config)
    train, test = build(config.train_dataloader), build(config.val_dataloader)
    assert [len(train), len(test)] == images
    text = blocks(DATA, kind)[0]
    if kind == "csv":
        records = list(csv.DictReader(io.StringIO(text)))
    else:
        records = json.loads(text) if kind == "json" else [json.loads(line) for line in text.splitlines()]
    by_image = {record["image"]: record for record in records}
    for dataset in (train, test):
        assert dataset.taxonomy.level_names == ("kingdom", "kind", "breed")
        photographers = dataset.metainfo["extra_label_values"]["photographer"]
        rows = zip(dataset.image_paths, names_of(dataset), dataset.splits, dataset.extra_labels[:, 0], strict=True)
        for path, names, split, photographer in rows:
            record = by_image[path.removeprefix("my/photos/")]
            assert names == tuple(filter(None, (record.get(name) for name in dataset.taxonomy.level_names)))
            assert (split, photographers[photographer]) == (record["split"], record["photographer"])
    assert test.splits == ["query", "gallery"]


def test_metrics_look_at_levels_and_columns_as_it_says(own_data):
    config = load_config("list_csv.py")
    apply_encoder_settings(config)
    dataset = build(config.val_dataloader)
    embedded = Embeddings(
        features=torch.eye(2),
        labels=dataset.labels,
        extra_labels=dataset.extra_labels,
        splits=dataset.splits,
        paths=dataset.image_paths,
        taxonomy=dataset.taxonomy,
        extra_names=dataset.metainfo["extra_label_names"],
        extra_values=dataset.metainfo["extra_label_values"],
    )
    (metric,) = [METRICS.build({**options, "_scope_": "hierpretrain"}) for options in config.val_evaluator]
    assert metric.reduce([metric.map(embedded, (0, 1))])["kind/recall@1"] == 1.0
    assert embedded.names("photographer") == ["Ann", "Bob"]


def test_an_image_without_a_label_is_one_of_no_class(own_data):
    write_image(own_data / "my/photos/0.jpg", "red")
    assert () in names_of(FolderDataset(data_root="my/photos"))
    with open("my/photos/images.csv", "a") as file:
        file.write("0.jpg,train,,,,Ann\n")
    dataset = ListDataset(data_root="my/photos", ann_file="images.csv", extra_labels=["photographer"])
    assert dataset.labels[-1].tolist() == [PAD] * 3


def test_a_catalogue_is_read_as_it_says(own_data):
    (text,) = blocks(DATA, "text")[1:]
    (code,) = [code for code in blocks(DATA, "python") if "catalogue.csv" in code]
    (own_data / "my/photos/catalogue.csv").write_text(text)
    names = {}
    exec(code, names)
    options = {key: value for key, value in names["dataset"].items() if key != "type"}
    dataset = ListDataset(**options)
    assert dataset.keys == ["A-17", "A-18", "B-01", "B-02"]
    assert dataset.metadata == {"no.": ["1", "2", "3", "4"], "price": ["12,50", "9,00", "24,90", "31,00"]}
    assert names_of(dataset) == [("animal", "cat"), ("animal", "dog"), ("tool", "saw"), ("tool",)]
    with pytest.raises(ValueError, match=r"'no\.' has another value for every image, such as '1', as a key has"):
        ListDataset(**{**options, "levels": None})


def test_data_of_other_libraries_is_read_as_it_says(own_data):
    def run(name):
        return runpy.run_path(str(own_data / f"{name}_data.py"))

    assert names_of(run("torchvision")["data"]) == [("animal", "cat", "siamese")] * 2 + [("animal", "cat", "tabby")]
    found = run("hugging_face")
    assert names_of(found["data"]) == names_of(found["again"]) == [("animal",), ("tool",)]
    (own_data / "my/parquet").mkdir()
    for split in ("train", "val"):
        found["pets"].to_parquet(own_data / f"my/parquet/{split}-0.parquet")
    assert names_of(run("parquet")["data"]) == [("animal",), ("tool",)]
    (own_data / "my/shards").mkdir()
    with tarfile.open(own_data / "my/shards/train-0.tar", "w") as tar:
        for i, photo in enumerate(("animal/cat/4.jpg", "tool/saw/6.jpg")):
            tar.add(f"my/photos/{photo}", f"{i:04}.jpg")
            (own_data / "cls").write_text(str(i))
            tar.add("cls", f"{i:04}.cls")
    data = run("shards")["data"]
    assert names_of(data) == [("animal", "cat"), ("tool",)]
    assert data.image_paths[1] == "my/shards/train-0.tar/0001.jpg"


def test_its_errors_are_those_that_it_shows(own_data):
    gap, fields, missing, split = blocks(DATA, "console")[-1].splitlines()
    lines = blocks(DATA, "csv")[0].splitlines()
    options = {"data_root": "my/photos", "ann_file": "images.csv", "extra_labels": ["photographer"]}
    changes = {gap: (3, lines[3].replace(",cat,", ",,")), fields: (2, lines[2].rpartition(",")[0])}
    for message, (number, line) in changes.items():
        (own_data / "my/photos/images.csv").write_text("\n".join([*lines[:number], line, *lines[number + 1 :]]))
        with pytest.raises(ValueError, match=re.escape(message)):
            ListDataset(data_root="my/photos", ann_file="images.csv")
    (own_data / "my/photos/images.csv").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=re.escape(split)):
        ListDataset(**options, split="test")
    for name in re.findall(r"'([\w/]+\.jpg)'", missing):
        (own_data / "my/photos" / name).unlink()
    with pytest.raises(ValueError, match=re.escape(missing)):
        ListDataset(**options)


# ------------------------------------------------------------------ docs/finetuning.md
FINETUNING = ROOT / "docs/finetuning.md"


def test_the_recipe_in_sight_is_the_base_and_the_data(tmp_path):
    written(FINETUNING, tmp_path)
    shown, base = load_config(tmp_path / "photos.py"), load_config(ROOT / "configs/_base_/finetune_photos.py")
    for part in ("train", "val", "test"):
        assert shown[f"{part}_dataloader"].pop("dataset").type == "FolderDataset"
        shown.pop(f"{part}_evaluator", None)
    assert base.model.backbone.pop("weights") is True  # the default
    assert shown.to_dict() == base.to_dict()


@pytest.mark.parametrize("size", [96, 224])
def test_a_kept_view_takes_what_it_says(size):
    encoder, images = EfficientNetLite0(weights=False, frozen_stages=5).eval(), torch.zeros(1, 3, size, size)
    part = FrozenPart(encoder)
    part.prepare(images)
    kib = 2 * part.features(images).numel() / 1024
    assert f"5 of 7 stages, {size} px | {kib:.1f} KiB |" in FINETUNING.read_text(encoding="utf-8")


# ------------------------------------------------------------------ docs/inference.md
def test_images_are_embedded_found_and_classified_as_it_says(tmp_path, monkeypatch, capsys):
    for number, name in enumerate(("animal/cat/1", "animal/cat/2", "animal/dog/3", "tool/4")):
        write_image(tmp_path / f"photos/{name}.jpg", (60 * number, 90, 200 - 50 * number))
    write_image(tmp_path / "new.jpg", (0, 90, 200))
    for number in (5, 6):
        write_image(tmp_path / f"more_photos/{number}.jpg", (9 * number, 200, 7))
    torch.manual_seed(0)
    options = load_config(ROOT / "configs/finetune_emoji.py").model
    model = MODELS.build({**options, "loss": None, "_scope_": "hierpretrain"})  # random weights: nothing is loaded here
    checkpoint = tmp_path / "work_dirs/finetune_emoji/epoch_4.pth"
    checkpoint.parent.mkdir(parents=True)
    torch.save({"meta": {}, "state_dict": model.state_dict()}, checkpoint)
    monkeypatch.chdir(tmp_path)
    names = {}
    for path in written(ROOT / "docs/inference.md", tmp_path):
        exec(compile(path.read_text(), path.name, "exec"), names)
    assert names["vectors"].shape == (4, 1280)
    assert names["vectors"] == pytest.approx(names["embedded"].features.numpy(), abs=1e-6)
    assert names["result"].neighbours[0].path == "photos/animal/cat/1.jpg"  # of the very colour
    assert names["result"].neighbours[0].score == pytest.approx(1, abs=1e-5)
    assert {found.labels[0][0] for found in names["result"].neighbours} == {"animal"}
    assert names["answer"].query == "new.jpg"
    added, updated, score = capsys.readouterr().out.splitlines()[-3:]
    assert (added, updated) == ("added 2, removed 0, kept 0", "added 0, removed 0, kept 4")
    assert [found.key for found in names["found"].neighbours] == ["S7"]
    assert 0 < float(score) <= 1
    assert len(names["inferencer"].load_index("photos.index")) == 6
    assert dict(names["index"].parts) == {"notes": {"made by": "me"}}


# ------------------------------------------------------------------ docs/extending.md
EXTENDING = ROOT / "docs/extending.md"


@pytest.fixture
def own_files(tmp_path, monkeypatch):
    """Goes to a folder with the files of the page and images in the format that its reader reads."""
    for i in range(12):
        kind = ("animal", "cat") if i % 2 else ("tool", "saw")
        write_image(tmp_path / f"my/photos/{i:02}.jpg", (20 * i, 250 - 20 * i, 70 * i % 256))
        lines = ["train" if i < 8 else "test", *kind]
        (tmp_path / f"my/photos/{i:02}.txt").write_text("\n".join(lines) + "\n")
    written(EXTENDING, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return load_config("mine.py")


def test_the_loss_of_one_s_own_compares_shared_levels(own_files):
    loss = MODELS.build({**own_files.model.loss, "_scope_": "hierpretrain"})
    features = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    labels = torch.tensor([[0, 0], [0, 1], [1, PAD]])
    wanted = [[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 0.5]]
    cosines = [[1.0, 0.6, 0.0], [0.6, 1.0, 0.8], [0.0, 0.8, 1.0]]
    errors = [(cosines[i][j] - wanted[i][j]) ** 2 for i in range(3) for j in range(3)]
    assert loss(features, labels, torch.arange(3)).item() == pytest.approx(2 * sum(errors) / 9, rel=1e-6)


def test_the_data_set_of_one_s_own_has_splits_and_labels(own_files):
    train, test = build(own_files.train_dataloader), build(own_files.val_dataloader)
    assert (len(train), len(test)) == (8, 4)
    assert names_of(test) == [("tool", "saw"), ("animal", "cat")] * 2
    assert train.taxonomy.level_names == ("kingdom", "kind")


def test_the_metric_of_one_s_own_is_the_formula(own_files):
    metric = METRICS.build(dict(type="UniformityMetric", _scope_="hierpretrain"))
    embedded = Embeddings(
        features=torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]),
        labels=torch.zeros(3, 1, dtype=torch.int64),
        extra_labels=torch.empty(3, 0, dtype=torch.int64),
        splits=["all"] * 3,
        paths=["a", "b", "c"],
        taxonomy=Taxonomy([("a",)], ("kind",)),
        extra_names=(),
    )
    apart = torch.tensor([2.0, 4.0, 2.0])  # squared distances
    expected = torch.exp(-2 * apart).mean().log().item()
    assert metric.measure(embedded)["uniformity"] == pytest.approx(expected, rel=1e-6)
    some = METRICS.build(dict(type="UniformityMetric", splits="test", _scope_="hierpretrain"))
    (found,) = some.reduce([some.map(replace(embedded, splits=["test", "train", "test"]), (0, 1))]).values()
    assert found == pytest.approx(-8.0)  # of the first and the last, whose squared distance is 4


def test_the_hook_of_one_s_own_leaves_frozen_stages_frozen(own_files):
    hook = HOOKS.build({**own_files.custom_hooks[0], "_scope_": "hierpretrain"})
    model = HierarchicalContrastive(dict(type="ResNet", depth=18, base_channels=8, stem_channels=8, frozen_stages=2))
    before = {name for name, weight in model.backbone.named_parameters() if weight.requires_grad}
    assert before == {name for name, _ in model.backbone.named_parameters() if name.startswith(("layer3", "layer4"))}
    runner = SimpleNamespace(model=model, epoch=0)
    hook.before_train(runner)
    hook.before_train_epoch(runner)
    assert model.frozen
    runner.epoch = 1
    hook.before_train_epoch(runner)
    assert {name for name, weight in model.backbone.named_parameters() if weight.requires_grad} == before


@pytest.mark.slow
def test_all_of_one_s_own_train_together(own_files):
    own_files.merge_from_dict(
        {
            "train_dataloader.batch_size": 4,
            "train_dataloader.num_workers": 0,
            "val_dataloader.num_workers": 0,
            "train_cfg.max_epochs": 2,
            "train_cfg.val_interval": 2,
            "default_hooks.checkpoint.max_keep_ckpts": 3,
            "work_dir": "run",
        }
    )
    runner = build_runner(own_files)
    start = runner.model.state_dict()["backbone.layers.0.weight"].clone()
    runner.train()
    first, second = (torch.load(f"run/epoch_{i}.pth", weights_only=True)["state_dict"] for i in (1, 2))
    assert not first["backbone.layers.0.weight"].equal(second["backbone.layers.0.weight"])
    assert first["backbone.layers.0.weight"].equal(start)  # the hook's first epoch is the head's alone
    assert "uniformity" in Path("run/metrics.json").read_text()


def test_the_hooks_of_a_run_are_those_of_the_default_runtime():
    table = EXTENDING.read_text(encoding="utf-8").split("## The hooks of a run")[1].split("\n## ")[0]
    listed = dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", table, re.MULTILINE))
    hooks = load_config(ROOT / "configs/himulcone_emoji.py").default_hooks
    assert listed == {key: hook.type for key, hook in hooks.items() if key not in MMENGINE_HOOKS}
    changed = [
        path for path in (ROOT / "configs").glob("*.py") if "\ndefault_hooks" in path.read_text(encoding="utf-8")
    ]
    others = {key for path in changed for key in load_config(path).default_hooks}
    assert len(changed) > 10
    named = set(spans(EXTENDING))
    assert {re.split("_(seen|unseen|concept)", key)[0] for key in others - {*MMENGINE_HOOKS}} <= named


def test_the_changes_of_hooks_that_it_shows_are_possible(tmp_path):
    table = EXTENDING.read_text(encoding="utf-8").split("## The hooks of a run")[1].split("\n## ")[0]
    shown = re.findall(r"`(default_hooks = dict\(.*?)`", table)
    found = []
    for base, text in zip(("himulcone_emoji", "himulcone_emoji", "linear_emoji"), shown[:3], strict=True):
        (tmp_path / "changed.py").write_text(f'_base_ = "{ROOT}/configs/{base}.py"\n{text}\n')
        found.append(load_config(tmp_path / "changed.py").default_hooks.tsne)
    assert found == [dict(type="TSNEHook", level=2), None, dict(type="TSNEHook", level=1)]
    assert load_config("himulcone_emoji", {"default_hooks.tsne.level": 2}).default_hooks.tsne == found[0]
    with pytest.raises(ValueError, match=r"has no hook 3; .* did you mean .*default_hooks\.tsne\.interval"):
        load_config("himulcone_emoji", {"custom_hooks.3.interval": 1})


# ------------------------------------------------------------------ docs/zoo.md
def test_the_config_in_pure_python_is_read(own_data):
    written(ROOT / "docs/zoo.md", own_data)
    config = load_config("deeper.py")
    assert config.model.backbone == dict(type="mmpretrain.models.ResNet", depth=34)
    assert set(config) == {*load_config("pure.py"), "default_scope"}
    assert "views" not in config
    assert [view.shape for view in build(config.train_dataloader)[0]["inputs"]] == [(3, 64, 64)] * 2


# ------------------------------------------------------------------ docs/choosing_a_loss.md
def test_every_loss_is_told_apart():
    MODELS.import_from_location()
    losses = {
        name for name, kind in MODELS.module_dict.items() if name.endswith("Loss") and "hierpretrain" in str(kind)
    }
    own = {
        kind.__name__ for kind in vars(importlib.import_module("hierpretrain.models")).values() if inspect.isclass(kind)
    }
    table = (ROOT / "docs/choosing_a_loss.md").read_text().split("## How they differ")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == losses & own


def test_its_numbers_are_those_of_the_results():
    results = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    rows = [line for line in (ROOT / "docs/choosing_a_loss.md").read_text().splitlines() if TABLE_CELL.search(line)]
    known = {}
    for line in results.splitlines():
        if TABLE_CELL.search(line) and line.startswith("| "):
            known.setdefault(line.split("|")[1].strip(), set()).update(TABLE_CELL.findall(line))
    checked = 0
    for row in (row for row in rows if row.startswith("| ")):
        cells = TABLE_CELL.findall(row)
        assert set(cells) <= known[row.split("|")[1].strip()], row
        checked += len(cells)
    assert checked == 8 * 5


# ------------------------------------------------------------------ docs/metrics.md
def test_every_result_of_every_metric_is_defined():
    tree = Taxonomy([("a", "x"), ("a", "y"), ("b", "z"), ("b", "w")], ("kind", "item"))
    paths = [path for path in [("a", "x"), ("a", "y"), ("b", "z"), ("b", "w")] for _ in range(6)]
    several = [(path, ("b", "z")) if i == 0 else (path,) for i, path in enumerate(paths)]
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(24, 4, generator=generator), dim=1)
    defined = {re.sub(r"@[kl]$", "@k", span) for span in spans(ROOT / "docs/metrics.md")}
    METRICS.import_from_location()
    seen = set()
    for labels in (tree.encode(paths), tree.encode(several).reshape(24, -1, 2)):
        embedded = Embeddings(
            features=features,
            labels=labels,
            extra_labels=torch.empty(24, 0, dtype=torch.int64),
            splits=["train", "test"] * 12,
            paths=[str(i) for i in range(24)],
            taxonomy=tree,
            extra_names=(),
        )
        for kind in METRICS.module_dict.values():
            if not kind.__module__.startswith("hierpretrain"):
                continue
            options = {"levels": ["kind", "item"], "within": [("item", "kind")], "mistakes": True, "device": "cpu"}
            metric = kind(**{name: options[name] for name in options.keys() & inspect.signature(kind).parameters})
            seen |= metric.reduce([metric.map(embedded, (0, 1))]).keys()
    for name in seen:
        plain = re.sub(r"(?<!height)@\d+", "@k", name.removeprefix("kind/").removeprefix("item/"))
        plain = re.sub(r"^(linear|knn)_(?!top)", "", plain).replace("nmi_in_kind", "nmi_in_parent")
        plain = re.sub(r"^ap/.*", "<level>/ap/<class>", re.sub(r"_top\d", "_top1", plain))
        assert plain in defined, name
    assert {"kind/num_ambiguous", "item/nmi_in_kind", "h_ap", "violations@2", "kind/ap/a"} <= seen


# ------------------------------------------------------------------ docs/troubleshooting.md
TROUBLE = ROOT / "docs/troubleshooting.md"
OTHERS = (  # what other packages say; the rest of the page's messages are ours
    "No module named",
    "Fail to import",
    "__init__() got",
    "default_collate()",
    "address already",
    "SyncBatchNorm layers",
    "Weights only load",
    "TSNE.__init__()",
    "module 'numpy'",
    "Python integer",
)


def templates():
    """Returns the messages of our errors, with ``...`` for what is filled in."""
    found = []
    for path in [ROOT / "setup.py", *(ROOT / "hierpretrain").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "..." for part in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def quoted():
    """Returns the messages in the first column of the page's tables."""
    rows = re.findall(r"^\| `(.+?)`", TROUBLE.read_text(encoding="utf-8"), re.MULTILINE)
    return [row for row in rows if not row.startswith(OTHERS)]


def is_said(message, said):
    """Returns whether a template says the fixed parts of a message, in their order."""
    pattern = ".*".join(re.escape(part) for part in re.split(r"\s*\.\.\.\s*", message) if part)
    return any(re.search(pattern, text, re.DOTALL) for text in said)


def test_every_message_that_it_quotes_is_one_of_ours():
    messages, said = quoted(), templates()
    assert len(messages) > 30
    for message in messages:
        assert is_said(message, said), message
    assert not is_said("there is no folder ... to write images to", said)


def test_the_messages_of_others_are_all_on_the_page():
    rows = re.findall(r"^\| `(.+?)`", TROUBLE.read_text(encoding="utf-8"), re.MULTILINE)
    assert all(any(row.startswith(start) for row in rows) for start in OTHERS)


# ------------------------------------------------------------------ commands
def test_commands_by_their_installed_name_are_checked_as_well():
    assert ("tools/train.py", ["finetune_emoji"]) in list(commands(ROOT / "docs/install.md"))
