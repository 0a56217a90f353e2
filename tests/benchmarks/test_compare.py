"""tools/benchmarks/compare.py on runs that are made up, the configs of its runs and the split of its trials."""

import copy
import functools
import importlib
import sys
import time
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from hierpretrain.datasets import Annotations, Emoji64, OpenClipart96, Split
from hierpretrain.files import sha256, write_json
from hierpretrain.registry import DATA_SAMPLERS, MODELS
from tests.config_trees import write_tree
from tests.conftest import random_labels
from tests.test_configs import count_classes

ROOT = Path(__file__).parents[2]
NAMES = ("comparison", "comparison_runs", "comparison_config", "comparison_tables", "compare")
FOUND_BY = "model.loss.temperature"


@pytest.fixture
def tools(monkeypatch):
    """The modules of the tool, by name."""
    monkeypatch.syspath_prepend(str(ROOT / "tools/benchmarks"))
    others = ("table", "table_rows")
    for name in (*NAMES, *others):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    for name in (*NAMES, *others):
        sys.modules.pop(name, None)


def metrics_of(protocol, score):
    """Metrics of a run that has a score."""
    return dict.fromkeys(protocol.columns.values(), score)


@pytest.fixture
def runs(tools, monkeypatch):
    """The runs that were started; a run's score is drawn by its key, or by ``runs.score`` if a test sets it."""
    monkeypatch.setattr("hierpretrain.files.flush", lambda path: None)  # hundreds of files
    started = SimpleNamespace(list=[], score=lambda run: zlib.crc32(run.key.encode()) % 1000 / 1000)
    protocol = tools.comparison.PROTOCOLS["emoji_scratch"]

    def measure(run, folder):
        started.list.append(run)
        return metrics_of(protocol, started.score(run))

    monkeypatch.setattr(tools.compare, "run_config", lambda protocol, method, run, root, draw: run)
    monkeypatch.setattr(tools.compare, "measure", measure)
    return started


def comparison(tools, folder):
    results = tools.comparison_runs.Results(folder / "results.jsonl")
    return tools.compare.Comparison("emoji_scratch", results, folder / "runs")


# ------------------------------------------------------------------ the search
def test_every_method_has_equally_many_trials_and_keeps_the_best(tools, runs, tmp_path):
    searching = comparison(tools, tmp_path)
    for name, method in searching.protocol.methods.items():
        trials = tools.comparison.TRIALS if method.trained else 0
        runs.list.clear()
        found = searching.search(name)
        keys = {run.key for run in runs.list}
        assert len(keys) == len(runs.list) == sum(map(len, method.stages)) == trials
        assert {(run.stage, run.seed, run.batch_size) for run in runs.list} <= {("trial", 0, 64)}
        assert found == (max(runs.list, key=runs.score).options if trials else {})
    for name, method in tools.comparison.PROTOCOLS["openclipart_pretrained"].methods.items():
        trials = 0 if name in ("Nothing trained", tools.comparison.SHIPPED) else tools.comparison.TRIALS
        assert sum(map(len, method.stages)) == trials


def test_a_trial_of_several_draws_has_their_means_and_other_runs_have_none(tools, monkeypatch, tmp_path):
    protocol = replace(tools.comparison.PROTOCOLS["openclipart_pretrained"], trial_seeds=(0, 10, 24))
    monkeypatch.setitem(tools.comparison.PROTOCOLS, "openclipart_pretrained", protocol)
    monkeypatch.setattr(tools.compare, "run_config", lambda protocol, method, run, root, draw: draw)
    monkeypatch.setattr(tools.compare, "measure", lambda draw, folder: {**metrics_of(protocol, draw / 2), "draw": draw})
    results = tools.comparison_runs.Results(tmp_path / "results.jsonl")
    searching = tools.compare.Comparison("openclipart_pretrained", results, tmp_path / "runs")
    run = functools.partial(tools.comparison_runs.Run, "SimCLR", seed=0, options={})
    assert searching.measured(run(stage="trial"))["draw"] == (0 + 10 + 24) / 3
    assert protocol.score(searching.measured(run(stage="trial"))) == pytest.approx((0 + 10 + 24) / 6)
    assert searching.measured(run(stage="final"))["draw"] == 0


def test_a_trial_whose_embedding_collapsed_is_the_worst_and_a_final_run_is_an_error(tools, monkeypatch, tmp_path):
    monkeypatch.setattr(tools.compare, "run_config", lambda protocol, method, run, root, draw: draw)
    searching = tools.compare.Comparison(
        "openclipart_pretrained", tools.comparison_runs.Results(tmp_path / "results.jsonl"), tmp_path / "runs"
    )
    protocol = searching.protocol
    monkeypatch.setattr(tools.compare, "measure", lambda draw, folder: {} if draw == 10 else metrics_of(protocol, 0.5))
    run = functools.partial(tools.comparison_runs.Run, "HiMulCon", seed=0, options={})
    assert protocol.score(searching.measured(run(stage="trial"))) == 0
    assert searching.results.metrics == {run(stage="trial").key: metrics_of(protocol, 0.0)}
    monkeypatch.setattr(tools.compare, "measure", lambda draw, folder: {})
    with pytest.raises(SystemExit, match=r"the embedding of HiMulCon, seed 0, collapsed; see .*log\.txt"):
        searching.measured(run(stage="final"))


class Runner:
    """A Runner whose embeddings are wrong."""

    def __init__(self, message):
        self.cfg, self.model = Config(dict(forms=[[1.0, 0.0]])), SimpleNamespace(power=1.0, pretrained=None)
        self.message, self._init_model_weights = message, lambda: None

    def test(self):
        raise ValueError(self.message)


def test_what_collapsed_leaves_no_metrics_and_other_errors_are_raised(tools, monkeypatch, tmp_path, capsys):
    Config(dict(a=1)).dump(tmp_path / "config.py")
    monkeypatch.setattr(tools.compare, "build_runner", lambda config: Runner("query must have a direction; row 3 is"))
    tools.compare.run_one(str(tmp_path))
    assert (tmp_path / "measured.json").read_text() == "{}"
    assert "the embedding collapsed: query must have a direction; row 3 is" in capsys.readouterr().out
    monkeypatch.setattr(tools.compare, "build_runner", lambda config: Runner("another"))
    with pytest.raises(ValueError, match="another"):
        tools.compare.run_one(str(tmp_path))


def test_a_stage_starts_from_the_best_of_the_stages_before(tools, runs, tmp_path):
    def score(run):  # the colder the better; every other rate is worse
        return 0.5 - run.options.get(FOUND_BY, 0.1) - (0.2 if "rate" in run.options else 0)

    runs.score = score
    found = comparison(tools, tmp_path).search("HiMulCon")
    head = {"model.projection": None, "train_dataloader.batch_sampler": None}  # of equals the first
    assert found == {**head, FOUND_BY: 0.05}
    assert [run.options for run in runs.list[4:]] == [
        {**head, FOUND_BY: 0.05},
        {**head, FOUND_BY: 0.2},
        {**head, FOUND_BY: 0.05, "rate": 0.5},
        {**head, FOUND_BY: 0.05, "rate": 2},
    ]


def test_a_method_with_another_number_of_trials_is_refused(tools):
    with pytest.raises(ValueError, match="every method has 8 trials; simclr has 1"):
        tools.comparison.Method("simclr", [[{"rate": 2}]])


def test_a_run_is_done_once_and_again_when_it_is_forgotten(tools, runs, monkeypatch, tmp_path):
    def main(*arguments):
        runs.list.clear()
        where = ["--results", tmp_path / "emoji_scratch.jsonl", "--work-dir", tmp_path / "runs", "--jobs", 2]
        monkeypatch.setattr(sys, "argv", ["compare.py", "emoji_scratch", *map(str, [*arguments, *where])])
        tools.compare.main()
        return [(run.method, run.stage) for run in runs.list]

    two = ("--methods", "HiMulCon", "SimCLR", "--seeds", 0)
    assert sorted(main(*two)) == sorted([(name, "trial") for name in two[1:3]] * 8 + [(n, "final") for n in two[1:3]])
    tables = {path.name: path.read_text() for path in tmp_path.glob("*.md")}
    assert tables.keys() == {"emoji_scratch.md", "emoji_scratch_trials.md"}
    assert main(*two) == main(*two, "--table") == []
    assert {path.name: path.read_text() for path in tmp_path.glob("*.md")} == tables
    assert main(*two, "--again", "SimCLR") == [("SimCLR", "trial")] * 8 + [("SimCLR", "final")]
    assert {path.name: path.read_text() for path in tmp_path.glob("*.md")} == tables
    assert main("--methods", "HiMulCon", "--search-only") == []


def test_given_settings_are_run_without_a_search_and_stand_in_a_table_of_their_own(tools, runs, monkeypatch, tmp_path):
    runs.score = lambda run: 0.1 * run.seed
    where = ["--results", tmp_path / "emoji_scratch.jsonl", "--work-dir", tmp_path / "runs"]
    given = ["--methods", "HiMulCon", "SimCLR", "--given", '{"model.projection": null, "rate": 2}']
    for more in ([], ["--batch-size", 256, "--seeds", 1]):
        monkeypatch.setattr(sys, "argv", ["compare.py", "emoji_scratch", *map(str, [*given, *where, *more])])
        tools.compare.main()
    assert all(run.stage == "given" and run.options == {"model.projection": None, "rate": 2} for run in runs.list)
    key = sorted((run.method, run.seed, run.batch_size) for run in runs.list)
    assert key == sorted([(n, s, 64) for n in given[1:3] for s in range(3)] + [(n, 1, 256) for n in given[1:3]])
    lines = (tmp_path / "emoji_scratch.md").read_text().splitlines()
    assert lines[2] == "**With settings that no search chose, percent**"
    assert lines[6:] == [
        "| HiMulCon: `projection=None`, `rate x 2` | 3 |" + " 10.0 ± 10.0 |" * 7,
        "| SimCLR: `projection=None`, `rate x 2` | 3 |" + " 10.0 ± 10.0 |" * 7,
        "| HiMulCon: `projection=None`, `rate x 2`, batches of 256 | 1 |" + " 10.0 |" * 7,
        "| SimCLR: `projection=None`, `rate x 2`, batches of 256 | 1 |" + " 10.0 |" * 7,
    ]


def test_a_row_of_another_protocol_is_refused(tools, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["compare.py", "openclipart_pretrained", "--methods", "HXE"])
    with pytest.raises(SystemExit):
        tools.compare.main()
    assert "openclipart_pretrained has no row 'HXE'; its rows are Nothing trained, SimCLR" in capsys.readouterr().err


def test_the_first_six_have_more_seeds_and_other_batches(tools, runs, tmp_path):
    comparing = comparison(tools, tmp_path)
    names = list(comparing.protocol.methods)
    first, rest = names[3:9], [*names[1:3], *names[9:]]
    runs.score = lambda run: 0.9 - 0.01 * names.index(run.method) if run.method in first else 0.1
    comparing.run(names, jobs=2)
    finals = {}
    for run in runs.list:
        if run.stage == "final":
            finals.setdefault(run.method, []).append(run.seed)
    assert {name: sorted(seeds) for name, seeds in finals.items()} == {
        **{name: [0, 1, 2, 3, 4] for name in first},
        **{name: [0, 1, 2] for name in rest},
        "Nothing trained": [0],
    }
    runs.list.clear()
    comparing.run(batch_size=256, seeds=[0])
    assert {run.batch_size for run in runs.list} == {256}
    assert sorted({run.method for run in runs.list}) == sorted(first)
    rates = [run.options["rate"] for run in runs.list if (run.method, run.stage) == (first[0], "trial")]
    assert rates == [1, 2, 4]
    assert len(runs.list) == 6 * (3 + 1)
    runs.list.clear()
    comparing.run([rest[0]], batch_size=256, seeds=[0])  # a row that was asked for, whatever its score
    assert {(run.method, run.batch_size) for run in runs.list} == {(rest[0], 256)}
    runs.list.clear()
    of_shipped = tools.compare.Comparison("emoji_pretrained", comparing.results, tmp_path)
    of_shipped.run([tools.comparison.SHIPPED], batch_size=256, seeds=[0])  # its rate is four times the protocol's
    assert [run.options["rate"] for run in runs.list if run.stage == "trial"] == [4, 8, 16]
    text = tools.comparison_tables.tables(comparing.protocol, comparing.results, names)
    assert text.count(r" \* | 5 |") == 6
    assert text.count("percent, batches of 256**") == 1


def test_a_run_of_another_process_is_waited_for(tools, runs, monkeypatch, tmp_path):
    measure = tools.compare.measure
    monkeypatch.setattr(tools.compare, "measure", lambda *arguments: time.sleep(0.3) or measure(*arguments))
    run = tools.compare.Run("SimCLR", "final", 0, {})
    both = [comparison(tools, tmp_path) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda one: one.measured(run), both)
    assert first == second
    assert runs.list == [run]


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_is_a_process_that_leaves_its_log_and_its_metrics(tools, monkeypatch, tmp_path, capsys, fails):
    def run(command, stdout, **how):
        folder = Path(command[-1])
        assert command[1:] == [tools.compare.__file__, "--one", str(folder)]
        assert Config.fromfile(folder / "config.py").to_dict() == dict(seed=3, work_dir=str(folder))
        stdout.write("told")
        write_json(folder / "measured.json", {"map": 0.5, "queries": 3})
        write_json(folder / "checkpoints/scalars.json", {})
        return SimpleNamespace(returncode=int(fails))

    monkeypatch.setattr(tools.compare.subprocess, "run", run)
    folder = tmp_path / "run"
    write_json(folder / "left_by_one_that_was_stopped", {})
    if fails:
        with pytest.raises(SystemExit, match=rf"a run failed; see {folder}/log\.txt"):
            tools.compare.measure(Config(dict(seed=3)), folder)
        assert "a run failed" in capsys.readouterr().out
    else:
        assert tools.compare.measure(Config(dict(seed=3)), folder) == {"map": 0.5, "queries": 3}
        assert sorted(path.name for path in folder.iterdir()) == ["config.py", "log.txt", "measured.json"]
    assert (folder / "log.txt").read_text() == "told"


# ------------------------------------------------------------------ the file of the runs
def test_a_line_that_is_cut_off_is_a_run_that_is_not_done(tools, tmp_path):
    Results, Run = tools.comparison_runs.Results, tools.comparison_runs.Run
    path = tmp_path / "runs.jsonl"
    first, second = Run("A", "trial", 0, {"x": None}), Run("B", "final", 1, {"y": {"type": "Z"}}, 256)
    results = Results(path)
    for run in (second, first):
        results.add(run, {"m": 0.5})
    whole = path.read_text()
    assert whole == (
        '{"run": ["A", "trial", 0, {"x": null}, 64], "metrics": {"m": 0.5}}\n'
        '{"run": ["B", "final", 1, {"y": {"type": "Z"}}, 256], "metrics": {"m": 0.5}}\n'
    )
    assert list(Results(path)) == [(first, {"m": 0.5}), (second, {"m": 0.5})]
    path.write_text(whole[:-9])
    results = Results(path)
    assert list(results.metrics) == [first.key]
    results.add(second, {"m": 0.5})
    assert path.read_text() == whole
    path.write_text(whole[3:])
    with pytest.raises(ValueError, match=r"runs\.jsonl, line 1: it must be a run and its metrics; remove it"):
        Results(path)


def test_processes_that_write_one_file_lose_nothing(tools, tmp_path):
    Results, Run = tools.comparison_runs.Results, tools.comparison_runs.Run
    path = tmp_path / "runs.jsonl"
    both = [Results(path), Results(path)]
    every = [Run(name, "final", seed, {}) for seed in range(20) for name in "AB"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: both[i % 2].add(every[i], {"m": i}), range(len(every))))
    assert {run.key: metrics for run, metrics in Results(path)} == {run.key: {"m": i} for i, run in enumerate(every)}
    both[0].forget("A")
    both[1].add(Run("C", "final", 0, {}), {"m": 0})  # which brings back nothing
    assert sorted({run.method for run, _ in Results(path)}) == ["B", "C"]


# ------------------------------------------------------------------ tables, by hand
def test_tables_by_hand(tools, tmp_path):
    Run, ours = tools.comparison_runs.Run, tools.comparison.OURS
    protocol = tools.comparison.PROTOCOLS["openclipart_pretrained"]
    keys = protocol.columns.values()
    results = tools.comparison_runs.Results(tmp_path / "runs.jsonl")
    hot, old = {"model.loss.weight": 3.0, "rate": 2}, {"rate": 0.5}
    results.add(Run(ours, "trial", 0, hot), metrics_of(protocol, 0.5))
    results.add(Run(ours, "trial", 0, old), metrics_of(protocol, 0.4) | {"unseen/h_ap": 0.6})  # (3 x 0.4 + 0.6) / 4
    results.add(Run("SimCLR", "trial", 0, {}), metrics_of(protocol, 0.3))
    for seed, value in enumerate((0.5, 0.6, 0.7)):
        forms = ("power_1", 0.1), ("power_0.5", 0.2), ("power_0.5_share_0.5", 0)
        in_forms = {f"{form}/{key}": value - less for form, less in forms for key in keys}
        results.add(Run(ours, "final", seed, hot), metrics_of(protocol, value) | in_forms)
    results.add(Run(ours, "final", 0, old), metrics_of(protocol, 0.9))  # of a search that went another way
    results.add(Run("SimCLR", "final", 0, {}), metrics_of(protocol, 0.4))
    alike = {f"power_0.5_share_0.5/{key}": 0.55 for key in keys}
    results.add(Run("SimCLR", "final", 1, {}), metrics_of(protocol, 0.4) | alike)
    results.add(Run("Nothing trained", "final", 0, {}), metrics_of(protocol, 0.1))
    text = tools.comparison_tables.tables(protocol, results, list(protocol.methods))
    header = "|  | seeds | MAP@R level2 | R@1 level2 | NMI level2 in level1 | NMI level1 | top-1 level1 | H-AP"
    header += " | violations |"
    # ours - SimCLR is 10 and 20: 15 and sqrt(50); ours - nothing is 40, 50 and 60; of violations fewer are better
    assert text == "\n".join([
        "**Test images of unseen classes, percent**", "", header, "| --- |" + " ---: |" * 8,
        "| Nothing trained | 1 |" + " 10.0 |" * 7,
        "| SimCLR | 2 |" + " 40.0 ± 0.0 |" * 7,
        f"| {ours} | 3 |" + " 60.0 ± 10.0 |" * 7,
        f"| {ours}, power 0.5 and pretrained share 0 | 3 |" + " 40.0 ± 10.0 |" * 7,
        f"| {ours}, power 1 and pretrained share 0 | 3 |" + " 50.0 ± 10.0 |" * 7, "",
        f"**How far {ours} is ahead, seed by seed: mean and deviation of the difference (violations: fewer)**", "",
        header.replace(" seeds |", ""), "| --- |" + " ---: |" * 7,
        "| Nothing trained |" + " +50.0 ± 10.0 |" * 6 + " -50.0 ± 10.0 |",
        "| SimCLR |" + " +15.0 ± 7.1 |" * 6 + " -15.0 ± 7.1 |",
        f"| {ours}, power 0.5 and pretrained share 0 |" + " +20.0 ± 0.0 |" * 6 + " -20.0 ± 0.0 |",
        f"| {ours}, power 1 and pretrained share 0 |" + " +10.0 ± 0.0 |" * 6 + " -10.0 ± 0.0 |", "",
        f"**How far {ours} is ahead, every row with power 0.5 and pretrained share 0.5, seed by seed: mean and"
        " deviation of the difference (violations: fewer)**", "",
        header.replace(" seeds |", ""), "| --- |" + " ---: |" * 7, "| SimCLR |" + " +5.0 |" * 6 + " -5.0 |", "",
        "**Settings**", "", "| | chosen |", "| --- | --- |",
        "| Nothing trained | as in the config |", "| SimCLR | as in the config |",
        f"| {ours} | `weight=3.0`, `rate x 2` |", "",
    ])  # fmt: skip
    assert tools.comparison_tables.trials_table(protocol, results) == "\n".join([
        f"**{ours}**", "", "| settings | score | MAP@R level2 | NMI level2 in level1 | NMI level1 | H-AP |",
        "| --- |" + " ---: |" * 5,
        "| `weight=3.0`, `rate x 2` |" + " 50.0 |" * 5,
        "| `rate x 0.5` | 45.0 | 40.0 | 40.0 | 40.0 | 60.0 |", "",
        "**SimCLR**", "", "| settings | score | MAP@R level2 | NMI level2 in level1 | NMI level1 | H-AP |",
        "| --- |" + " ---: |" * 5, "| as in the config |" + " 30.0 |" * 5, "",
    ])  # fmt: skip


# ------------------------------------------------------------------ configs
@pytest.fixture
def run_config(tools, monkeypatch, tmp_path):
    """Returns the function, with files that are read once; the split of the trials is there."""
    fromfile = functools.cache(Config.fromfile)
    monkeypatch.setattr(Config, "fromfile", lambda path: copy.deepcopy(fromfile(str(path))))
    for split in (ROOT / "configs/_base_/splits").glob("*.json"):
        (tmp_path / f"trials_0_{sha256(split)[:8]}.json").write_text("{}")
    return lambda protocol, method, run: tools.comparison_config.run_config(protocol, method, run, tmp_path)


def builds(config):
    """Builds the model and the sampler of a config."""
    model = {**config.model, "_scope_": "hierpretrain", "backbone": {**config.model.backbone, "init_cfg": None}}
    count_classes(model["loss"])
    built = MODELS.build(model)
    if sampler := config.train_dataloader.get("batch_sampler"):
        settings = {**sampler, "_scope_": "hierpretrain"}
        DATA_SAMPLERS.build(settings, default_args=dict(sampler=random_labels(0), batch_size=4))
    return built


@pytest.mark.slow
@pytest.mark.parametrize("name", ["emoji_scratch", "emoji_pretrained", "openclipart_pretrained"])
def test_every_trial_of_every_method_builds(tools, run_config, name):
    protocol, Run = tools.comparison.PROTOCOLS[name], tools.comparison_runs.Run
    for row, method in protocol.methods.items():
        final = run_config(protocol, method, Run(row, "final", 3, {}))
        assert final.randomness.seed == 3
        assert {metric.prefix for metric in final.test_evaluator} == {"unseen"}
        assert all(tag.startswith("unseen") for tag in final.test_dataloader.dataset.split)
        if not method.trained:
            assert final.train_cfg is final.train_dataloader is final.model.loss is None
            continue
        assert final.train_cfg.max_epochs == 8
        assert final.train_dataloader.dataset.split == "seen_train"
        builds(final)
        chosen = {}
        for alternatives in method.stages:  # every one of them once; from others' encoders a method is built alike
            for change in alternatives if name == "emoji_scratch" else alternatives[:1]:
                trial = run_config(protocol, method, Run(row, "trial", 0, {**chosen, **change}))
                builds(trial)
            chosen |= alternatives[-1]
        if not method.stages:
            continue
        assert trial.train_cfg.max_epochs == 4
        assert trial.train_dataloader.dataset.split == "seen_train"
        assert trial.test_dataloader.dataset.split == ["unseen_train", "unseen_val"]
        assert {metric.type for metric in trial.test_evaluator} == {
            "RetrievalMetric",
            "HierarchicalRetrievalMetric",
            "ClusteringMetric",
        }


def test_a_method_of_another_data_set_s_configs(tools, run_config):
    protocol, Run = tools.comparison.PROTOCOLS["openclipart_pretrained"], tools.comparison_runs.Run
    row = "SupCon, finest level"
    config = run_config(protocol, protocol.methods[row], Run(row, "final", 0, {"rate": 2}))
    assert config.model.loss == dict(type="SupConLoss", level="level2")
    data = config.train_dataloader.dataset
    assert (data.type, data.split, data.paths) == ("OpenClipart96", "seen_train", "first")
    assert Path(data.split_file).name == Path(config.test_dataloader.dataset.split_file).name
    assert config.test_dataloader.dataset.type == "OpenClipart96"
    assert "paths" not in config.test_dataloader.dataset  # measured are all of them
    assert config.model.backbone == Config.fromfile(ROOT / "configs/finetune_emoji.py").model.backbone
    assert config.optim_wrapper.optimizer.lr == 2 * 1e-3
    assert config.train_dataloader.batch_sampler.type == "HierarchicalBatchSampler"


@pytest.mark.parametrize(
    ("name", "recipe"),
    [("emoji_pretrained", "finetune_emoji"), ("openclipart_pretrained", "finetune_openclipart_known")],
)
def test_what_is_shipped_is_what_the_recommended_config_has(tools, run_config, name, recipe):
    protocol, shipped = tools.comparison.PROTOCOLS[name], tools.comparison.SHIPPED
    config = run_config(protocol, protocol.methods[shipped], tools.comparison_runs.Run(shipped, "final", 0, {}))
    recommended = Config.fromfile(ROOT / f"configs/{recipe}.py")
    assert {key: value for key, value in config.model.loss.items() if value is not None} == recommended.model.loss
    for part in ("backbone", "power", "projection"):
        assert config.model[part] == recommended.model[part]
    other = run_config(protocol, protocol.methods["HiMulCon"], tools.comparison_runs.Run("HiMulCon", "final", 0, {}))
    assert other.forms == [(1.0, 0.0), *protocol.forms]
    assert other.model.pretrained_share == protocol.share  # for the copy of the encoder, by which it is measured, too
    assert config.forms[0] == (recommended.model.power, recommended.model.get("pretrained_share", 0.0))
    assert config.train_dataloader.get("batch_sampler") is recommended.train_dataloader.get("batch_sampler") is None
    assert config.optim_wrapper == recommended.optim_wrapper


# ------------------------------------------------------------------ the split of the trials
def check_trials(split, source, paths_of, level):
    """Holds the split of the trials against the split of the data, image by image."""
    held_out = set(split.unseen)
    assert not held_out & set(source.unseen)
    assert split.tags.keys() == source.tags.keys()
    assert {*split.tags.values()} <= {"seen_train", "seen_val", "unseen_train", "unseen_val", "left_out"} | {
        tag for tag in source.tags.values() if tag not in ("unseen_train", "unseen_val")
    }
    used = 0
    for image, tag in split.tags.items():
        classes = {path[:level] for path in paths_of[image] if len(path) >= level}
        if tag in ("seen_train", "seen_val", "unseen_train", "unseen_val"):
            used += 1
            part = tag.split("_")[1]
            assert source.tags[image] == f"seen_{part}"  # no test image, none of an unseen class
            assert (classes <= held_out) if tag.startswith("unseen") else not classes & held_out
            assert classes
        elif source.tags[image] in ("seen_train", "seen_val"):
            assert tag == "left_out"
            assert not classes or (classes & held_out and classes - held_out)
    return used


def test_trials_of_emoji64_hold_out_seen_subcategories(tools, monkeypatch):
    file = ROOT / "configs/_base_/splits/emoji64_seen_unseen.json"
    source = Split.load(file)
    paths = {image: [tuple(image.split("/")[:3])] for image in source.tags}
    names = ("category", "subcategory", "emoji")
    records = [(image, its[0], "train") for image, its in paths.items()]
    monkeypatch.setattr(Emoji64, "read", lambda self: Annotations.from_records(records, names, "emoji64"))
    data = dict(type="Emoji64", data_root="none", split_file=str(file), check_files=False, split="seen_train")
    split = tools.comparison_config._trial_split(data, 0)
    assert check_trials(split, source, paths, 2) == sum(t in ("seen_train", "seen_val") for t in source.tags.values())
    assert len(split.unseen) == 16  # a fifth of the 78 that are seen
    assert split == tools.comparison_config._trial_split(data, 0)


def check_trials_of_openclipart(tools, data, draw=0):
    split = tools.comparison_config._trial_split(data, draw)
    options = {key: value for key, value in data.items() if key not in ("type", "split")}
    annotations = OpenClipart96(**options, keep_annotations=True).annotations
    paths = {image: annotations.paths(index) for index, image in enumerate(annotations.images)}
    assert check_trials(split, Split.load(data["split_file"]), paths, 2)
    return split


def test_trials_of_a_ragged_tree_with_several_paths(tools, tmp_path):
    data = dict(type="OpenClipart96", data_root="data/openclipart96", split_file="", split="seen_train")
    assert len(check_trials_of_openclipart(tools, data | write_tree(tmp_path, data)).unseen) == 1


def test_trials_of_openclipart_hold_out_what_can_be_clustered_inside_parents(tools):
    file = ROOT / "configs/_base_/splits/openclipart96_seen_unseen.json"
    data = dict(type="OpenClipart96", data_root=str(ROOT / "data/openclipart96"), split_file=str(file), paths="first")
    draws = tools.comparison.PROTOCOLS["openclipart_pretrained"].trial_seeds
    splits = [check_trials_of_openclipart(tools, data, draw) for draw in draws]
    assert [sum(tag.startswith("unseen") for tag in split.tags.values()) for split in splits] == [175, 205, 225]
    for split in splits:
        assert not {("shapes", "stars"), ("signs_and_symbols", "flags")} & set(split.unseen)
        parents = Counter(parent for parent, _ in split.unseen)
        assert sum(number for number in parents.values() if number > 1) >= 4
