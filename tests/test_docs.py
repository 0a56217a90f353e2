"""What the README and the pages of docs/ say is there: paths, links, tests, names, types and arguments, commands."""

import argparse
import ast
import functools
import inspect
import pkgutil
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import Registry
from mmengine.runner import Runner

from hierpretrain import registry
from hierpretrain.apis import load_config
from hierpretrain.models import SupConLoss
from hierpretrain.registry import DATASETS, MODELS
from tests.datasets.trees import write_image

ROOT = Path(__file__).parent.parent
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)
EXPERIMENTS = ROOT / "docs/experiments.md"
CONFIGS = {path.stem for path in (ROOT / "configs").glob("*.py")}
TABLE_ROWS = runpy.run_path(str(ROOT / "tools/benchmarks/table_rows.py"))

README = ROOT / "README.md"

pages = pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page, kind):
    """Returns the fenced blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def spans(page):
    """Returns what stands between backticks in a line."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", text)


# ------------------------------------------------------------------ names of files, pages, tests and objects
@pages
def test_every_path_it_names_exists(page):
    named = r"(?<![\w/.-])(?:(?:hierpretrain|configs|tools|tests|docs)/[\w./-]*(?:\.\w+|/)|data/\w+\.zip)(?![\w<*{/])"
    for path in re.findall(named, page.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), path


@pages
def test_every_link_resolves(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("https://") and not target.startswith("http://"):
            path, _, heading = target.partition("#")
            linked = page.parent / path if path else page
            assert linked.exists(), target
            slugs = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE) if heading else []
            assert not heading or heading in {re.sub(r"[^\w -]", "", s).lower().replace(" ", "-") for s in slugs}


@pages
def test_every_test_and_object_it_names_exists(page):
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for span in spans(page):
        if re.fullmatch(r"test_\w+", span) and span not in inspect.signature(Runner).parameters:
            assert f"def {span}(" in tests, span
        if re.fullmatch(r"hierpretrain(\.\w+)+", span):
            pkgutil.resolve_name(span)


def test_the_readme_leads_to_every_guide():
    """Pages that another one introduces are left to it."""
    linked = set(re.findall(r"\]\(docs/([\w.]+\.(?:md|ipynb))", README.read_text(encoding="utf-8")))
    left = {"index.md", "experiments.md"}
    assert linked >= {page.name for page in (ROOT / "docs").glob("*.*") if page.suffix in (".md", ".ipynb")} - left


def test_the_index_lists_every_page_and_every_base_config_of_the_data_sets():
    index = ROOT / "docs/datasets/README.md"
    linked = set(re.findall(r"\]\((\w+\.md)\)", index.read_text(encoding="utf-8")))
    assert linked == {page.name for page in index.parent.glob("*.md")} - {"README.md"}
    bases = {path.name for path in (ROOT / "configs/_base_/datasets").glob("*.py")}
    assert bases <= set(spans(index))
    for pattern in (span for span in spans(index) if re.fullmatch(r"(\*|himulcone)_\w+\.py", span)):
        assert any((ROOT / "configs").glob(pattern)), pattern


# ------------------------------------------------------------------ Python
def written(page, folder):
    """Writes the page's Python blocks as files of a folder and returns them.

    A block is named by its first line, if that is a comment such as ``# mine.py``; ``configs/`` is that of the
    repository.
    """
    files = []
    for number, text in enumerate(blocks(page, "python")):
        name = re.match(r"# (\w+\.py)\n", text)
        files.append(folder / (name[1] if name else f"block{number}.py"))
        files[-1].write_text(text.replace('"configs/', f'"{ROOT}/configs/'))
    return files


@pages
def test_python_compiles_and_configs_load(page, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    for path in written(page, tmp_path):
        text = path.read_text()
        compile(text, path.name, "exec")
        if "_base_ =" in text:
            load_config(path)


def typed_dicts(text):
    """Returns the types of every ``dict(type="X", ...)`` in Python code and the arguments that go with each."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            if isinstance(given.get("type"), ast.Constant):
                yield given["type"].value, given.keys() - {None, "type", "_delete_"}


def registered(name):
    """Returns what a type means in a config."""
    for registry_ in vars(registry).values():
        if isinstance(registry_, Registry) and (found := registry_.get(name)):
            return found
    return None


def arguments(kind):
    """Returns the names of the arguments of a class; those of its bases too, where it hands ``**options`` on."""
    if isinstance(kind, functools.partial):  # mmpretrain's wrapper of one of torchvision's transforms
        kind = kind.keywords["transform"]
    names = set()
    for base in inspect.getmro(kind):
        if "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters.values()
            names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
            if all(p.kind != p.VAR_KEYWORD for p in parameters):
                break
    return names - {"self"}


@pages
def test_every_type_is_registered_and_has_the_arguments(page, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    texts = blocks(page, "python") + [span for span in spans(page) if span.startswith("dict(")]
    for path in written(page, tmp_path):
        if "_base_ =" in path.read_text():
            load_config(path)  # which imports what a page registers itself
    for text in texts:
        for name, given in typed_dicts(text):
            assert (kind := registered(name)) is not None, name
            assert given <= arguments(kind), f"{name} has no {sorted(given - arguments(kind))}"


def test_arguments_and_types_are_told_from_others():
    assert list(typed_dicts('x = dict(type="A", b=1)\ny = dict(c=2, **x)')) == [("A", {"b"})]
    assert registered("InShop") is DATASETS.get("InShop")
    assert registered("InShopp") is None
    assert {"gender_level", "data_root", "split_file", "seed"} <= arguments(registered("InShop"))
    assert "options" not in arguments(registered("InShop"))


# ------------------------------------------------------------------ command lines
def commands(page):
    """Yields the tool and the arguments of every command line, in blocks and in the text."""
    lines = [line for text in blocks(page, "bash") for line in text.replace("\\\n", " ").splitlines()]
    for line in lines + [span for span in spans(page) if span.startswith(("python ", "bash ", "hierpretrain "))]:
        words = [word for word in shlex.split(line, comments=True) if not re.fullmatch(r"[A-Z_]+=\S*", word)]
        if len(words) > 1 and words[1].startswith("tools/"):
            tool, rest = words[1], words[2:]
            if words[0] == "bash":  # the wrappers take the number of processes behind the other positional arguments
                tool = re.sub(r"(dist|slurm)_(\w+)\.sh", r"\2.py", tool)
                place = 1 if "train" in tool else 2
                assert rest[place].isdigit(), line
                rest = rest[:place] + rest[place + 1 :]
            yield tool, rest
        elif words[:1] == ["hierpretrain"] and len(words) > 2 and words[1].islower():
            yield f"tools/{words[1].replace('-', '_')}.py", words[2:]


class _Parsed(Exception):
    """The command line was understood."""


@pytest.fixture
def parse(monkeypatch):
    """Returns a function that has a tool's own parser read arguments, and goes no further."""

    def stopped(original):
        def parse_args(parser, args=None, namespace=None):
            parser.allow_abbrev = False
            original(parser, args, namespace)
            raise _Parsed

        return parse_args

    for name in ("parse_args", "parse_intermixed_args"):
        monkeypatch.setattr(argparse.ArgumentParser, name, stopped(getattr(argparse.ArgumentParser, name)))

    def parse(tool, words):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", [tool, *words])
            patch.syspath_prepend(str((ROOT / tool).parent))
            with pytest.raises(_Parsed):
                runpy.run_path(str(ROOT / tool), run_name="__main__")

    return parse


@pages
def test_every_command_has_arguments_that_the_tool_knows(page, parse):
    for tool, words in commands(page):
        try:
            parse(tool, words)
        except SystemExit:
            pytest.fail(f"{tool} does not understand {words}")


@pytest.mark.parametrize("words", [[], ["a.py", "b.pth", "--date-root", "x"], ["a.py", "b.pth", "--data", "x"]])
def test_an_option_that_the_tool_lacks_would_be_noticed(words, parse):
    with pytest.raises(SystemExit):
        parse("tools/test.py", words)


# ------------------------------------------------------------------ the experiments
def test_the_table_of_methods_is_that_of_the_configs():
    lines = [
        line.split("|")[1:-1] for line in EXPERIMENTS.read_text(encoding="utf-8").splitlines() if line[:3] == "| `"
    ]
    header = next(line for line in EXPERIMENTS.read_text(encoding="utf-8").splitlines() if line.startswith("| | `"))
    data_sets = re.findall(r"`(\w+)`", header)
    assert set(data_sets) == set(TABLE_ROWS["COLUMNS"]) - set(TABLE_ROWS["PAPER_B"])
    marked = set()
    for first, *cells in lines:
        if len(cells) == len(data_sets):
            method = re.findall(r"`(\w+)`", first)[0]
            marked |= {f"{method}_{name}" for name, cell in zip(data_sets, cells, strict=True) if cell.strip() == "x"}
    assert marked == {name for name in CONFIGS if name.split("_", 1)[1] in data_sets}


def test_the_columns_that_are_named_are_those_of_the_tables():
    ours = {span for span in spans(EXPERIMENTS) if re.fullmatch(r"(\w+/)+(linear|knn|map|recall|nmi)\w*(@\w+)?", span)}
    assert len(ours) > 10
    columns = {
        key
        for name in ("deepfashion", "deepfashion_seen")
        for table in TABLE_ROWS["COLUMNS"][name].values()
        for key in table.values()
    }
    assert ours <= columns


def test_the_rows_that_are_added_name_configs_and_options(tmp_path):
    (text,) = [text for text in blocks(EXPERIMENTS, "python") if text.startswith("GROUPS[")]
    groups = dict(TABLE_ROWS["GROUPS"])
    exec(text, {"GROUPS": groups})
    (added,) = groups.keys() - TABLE_ROWS["GROUPS"].keys()
    for method, overrides in groups[added].values():
        for override in overrides:
            key, _, value = override.partition("=")
            loss = load_config(ROOT / f"configs/{method}_emoji_seen.py", {key: float(value)}).model.loss
            assert MODELS.build({**loss, "_scope_": "hierpretrain"}).options["temperature"] == float(value)


def test_the_loss_of_one_s_own_is_what_it_says(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (path,) = [path for path in written(EXPERIMENTS, tmp_path) if path.name == "twolevel_emoji_seen.py"]
    loss = MODELS.build({**load_config(path).model.loss, "_scope_": "hierpretrain"})
    features = torch.nn.functional.normalize(torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    labels = torch.tensor([[0, 0], [0, 1], [1, 2], [1, 2]]).repeat(2, 1)
    batch = features, labels, torch.arange(4).repeat(2)
    coarse, fine = SupConLoss(level=1)(*batch), SupConLoss(level=2)(*batch)
    assert loss(*batch).item() == pytest.approx(0.3 * coarse.item() + 0.7 * fine.item(), rel=1e-6)


def test_the_data_set_of_one_s_own_is_a_list_of_images(tmp_path, monkeypatch):
    folder = tmp_path / "path/to/catalogue"
    lines = ["image,category,product,split"]
    for i, split in enumerate(("train", "train", "query", "gallery")):
        write_image(folder / f"{i}.jpg", "red")
        lines.append(f"{i}.jpg,shirts,{'a' if i < 2 else 'b'},{split}")
    (folder / "images.csv").write_text("\n".join(lines) + "\n")
    (path,) = [path for path in written(EXPERIMENTS, tmp_path) if path.name == "linear_catalogue.py"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    trained = load_config(tmp_path / "himulcone_catalogue.py").train_dataloader
    dataset = DATASETS.build({**trained.dataset, "_scope_": "hierpretrain"})
    assert dataset.labels.tolist() == [[0, 0], [0, 0]]
    assert [view.shape for view in dataset[0]["inputs"]] == [(3, 224, 224)] * 2
    assert trained.batch_sampler.type == "HierarchicalBatchSampler"
    config = load_config(path)
    assert config.model.loss is config.train_dataloader is config.val_evaluator is None
    dataset = DATASETS.build({**config.test_dataloader.dataset, "_scope_": "hierpretrain"})
    assert dataset.splits == ["train", "train", "query", "gallery"]
    assert dataset.labels.tolist() == [[0, 0], [0, 0], [0, 1], [0, 1]]
