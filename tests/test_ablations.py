"""tools/benchmarks/ablations.py on runs that are made up, and what paper B's rows say to the configs."""

import argparse
import csv
import importlib.util
import json
import sys
from pathlib import Path

import pytest
from mmengine.config import DictAction

from hierpretrain.apis import load_config
from hierpretrain.datasets import LevelTripletSampler, OpenClipart96
from hierpretrain.files import write_whole

ROOT = Path(__file__).parent.parent
TOOLS = ROOT / "tools/benchmarks"
REPLAY, SPLIT = "train_dataloader.batch_sampler.replay", "train_dataloader.dataset.split"
# row of openclipart -> (overrides, mAP with seeds 0 and 1); mAP* is 0.1 more
RUNS = {
    "No training": ([], (0.2, 0.2)),
    "Level triplets": ([], (0.5, 0.6)),
    "Level triplets, level 1": (["default_hooks.curriculum.levels=1"], (0.7, 0.7)),
    "Level triplets, levels 1 to 2": (["default_hooks.curriculum.levels=2"], (0.6, 0.8)),
    "Level triplets, levels 1 to 3": (["default_hooks.curriculum.levels=3"], (0.65, 0.65)),
    "Level triplets, small data": ([f"{SPLIT}=small"], (0.3, 0.3)),
    "Level triplets, medium data": ([f"{SPLIT}=small,medium"], (0.4, 0.4)),
    "Level triplets, replay 0": ([f"{REPLAY}=0"], (0.41, 0.41)),
    "Level triplets, replay 0.25": ([f"{REPLAY}=0.25"], (0.42, 0.42)),
    "Level triplets, replay 0.75": ([f"{REPLAY}=0.75"], (0.43, 0.43)),
    "Level triplets, replay 1": ([f"{REPLAY}=1"], (0.44, 0.44)),
}
# deviations by hand: of 50 and 60 it is sqrt(50), of 60 and 80 sqrt(200)
MARKDOWN = """\
**Levels trained, the coarsest first**

|  | mAP | mAP* |
| --- | ---: | ---: |
| No training | 20.0 ± 0.0 | 30.0 ± 0.0 |
| 1 | 70.0 ± 0.0 | 80.0 ± 0.0 |
| 2 | 70.0 ± 14.1 | 80.0 ± 14.1 |
| 3 | 65.0 ± 0.0 | 75.0 ± 0.0 |
| 4 | 55.0 ± 7.1 | 65.0 ± 7.1 |

**Training images**

|  | mAP | mAP* |
| --- | ---: | ---: |
| No training | 20.0 ± 0.0 | 30.0 ± 0.0 |
| small | 30.0 ± 0.0 | 40.0 ± 0.0 |
| medium | 40.0 ± 0.0 | 50.0 ± 0.0 |
| large | 55.0 ± 7.1 | 65.0 ± 7.1 |

**Replay probability**

|  | mAP | mAP* |
| --- | ---: | ---: |
| No training | 20.0 ± 0.0 | 30.0 ± 0.0 |
| 0 | 41.0 ± 0.0 | 51.0 ± 0.0 |
| 0.25 | 42.0 ± 0.0 | 52.0 ± 0.0 |
| 0.5 | 55.0 ± 7.1 | 65.0 ± 7.1 |
| 0.75 | 43.0 ± 0.0 | 53.0 ± 0.0 |
| 1 | 44.0 ± 0.0 | 54.0 ± 0.0 |
"""


@pytest.fixture
def tools(monkeypatch):
    """The modules table_rows, table and ablations, by name."""
    monkeypatch.syspath_prepend(str(TOOLS))  # where they find one another
    modules = {}
    for name in ("table_rows", "table", "ablations"):
        spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
        modules[name] = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, modules[name])
        spec.loader.exec_module(modules[name])
    return modules


@pytest.fixture
def main(tools, monkeypatch):
    """Returns a function that calls a tool's main with arguments."""

    def main(tool, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{tool}.py", *map(str, arguments)])
        tools[tool].main()

    return main


@pytest.fixture
def commands(tools, monkeypatch):
    """What is run, as lists of words; all that a run leaves is there, with the same number everywhere."""
    commands = []

    def run(command, log, threads):
        commands.append([str(part) for part in command])
        work_dir = Path(command[command.index("--work-dir") + 1])
        write_whole(work_dir / "epoch_1.pth", b"")
        tables = [columns for of_one in tools["table_rows"].COLUMNS.values() for columns in of_one.values()]
        keys = {key for columns in tables for key in columns.values()}
        write_whole(work_dir / "metrics.json", json.dumps({"metrics": dict.fromkeys(keys, 0.5)}).encode())

    monkeypatch.setattr(tools["table"], "run", run)
    return commands


def trainings(commands):
    """The overrides of each training, without the seed."""
    return [
        tuple(word for word in words[words.index("--cfg-options") + 1 :] if not word.startswith("randomness."))
        for words in commands
        if words[0] == "tools/train.py" and "leveltriplet" in words[1]
    ]


def write_runs(folder):
    for row, (overrides, values) in RUNS.items():
        for seed, value in enumerate(values):
            config, common = (None, []) if row == "No training" else ("leveltriplet_openclipart", ["x=1"])
            options = [config, "linear_openclipart", f"randomness.seed={seed}", *common, *overrides]
            metrics = {"probe/level1/map": value, "probe/level1/map_images": value + 0.1, "other": 3.0}
            name = row.replace(", ", "_").replace(" ", "_").replace(".", "_")
            done = json.dumps({"options": options, "metrics": metrics})
            write_whole(folder / f"{name}_{seed}/done.json", done.encode())


def test_finished_runs_become_a_table_numbers_and_a_picture(tools, main, monkeypatch, tmp_path, capsys):
    folder = tmp_path / "openclipart"
    write_runs(folder)
    monkeypatch.setattr(tools["table"], "run", lambda *_: pytest.fail("a run that is done was started"))
    arguments = ("openclipart", "--seeds", 0, 1, "--cfg-options", "x=1", "--work-dir", tmp_path)
    main("ablations", *arguments)
    assert (folder / "ablations.md").read_text() == MARKDOWN
    assert capsys.readouterr().out == f"{MARKDOWN}\n"
    assert (folder / "ablations.png").read_bytes().startswith(b"\x89PNG")
    with open(folder / "ablations.csv", newline="") as file:
        header, *lines = csv.reader(file)
    assert header == ["ablation", "setting", "seed", "metric", "value"]
    assert lines[:3] == [
        ["", "No training", "0", "probe/level1/map", "0.2"],
        ["", "No training", "0", "probe/level1/map_images", str(0.2 + 0.1)],
        ["", "No training", "0", "other", "3.0"],
    ]
    assert len(lines) == (1 + 4 + 3 + 5) * 2 * 3
    base = {(ablation, setting) for ablation, setting, *rest in lines if rest == ["0", "probe/level1/map", "0.5"]}
    assert base == {("levels", "4"), ("data", "large"), ("replay", "0.5")}

    drawn = {}
    monkeypatch.setattr(tools["ablations"], "plot_ablations", lambda panels, path, **how: drawn.update(how, of=panels))
    main("ablations", *arguments)
    assert list(drawn["of"]) == ["levels trained, the coarsest first", "training images", "replay probability"]
    levels, data, replay = drawn["of"].values()
    assert [list(panel) for panel in (levels, data)] == [["1", "2", "3", "4"], ["small", "medium", "large"]]
    assert list(replay) == ["0", "0.25", "0.5", "0.75", "1"]
    assert levels["2"] == {"mAP": [0.6, 0.8], "mAP*": [0.7, 0.9]}
    assert levels["4"] == data["large"] == replay["0.5"] == {"mAP": [0.5, 0.6], "mAP*": [0.6, 0.7]}
    assert drawn["reference"] == {"mAP": [0.2, 0.2], "mAP*": [0.2 + 0.1] * 2}
    assert drawn["title"] == "Level-by-level triplets on openclipart, mean and deviation of 2 seeds"


def test_what_the_table_and_the_ablations_have_in_common_is_run_once(main, commands, tmp_path):
    where = ("openclipart", "--seeds", 5, "--jobs", 1, "--work-dir", tmp_path)
    main("table", *where)
    assert len(commands) == 9 + 8  # tests, and trainings of all but the one row without
    of_the_table = {"": (), "level": ("default_hooks.curriculum.levels=1",), "branch": ("model.loss.max_level=branch",)}
    of_the_table |= {"first": (f"{REPLAY}=0",), "last": (f"{REPLAY}=1",)}
    of_the_table |= {"stages": ("default_hooks.curriculum.schedule=all_levels", f"{REPLAY}=1")}
    assert set(trainings(commands)) == set(of_the_table.values())
    main("ablations", *where)
    assert len(commands) == 9 + 8 + 2 * 6
    assert len(set(trainings(commands))) == len(trainings(commands)) == 6 + 6
    main("table", *where)
    main("ablations", *where)
    assert len(commands) == 9 + 8 + 2 * 6


def test_ablations_and_levels_are_chosen(main, commands, tmp_path):
    main("ablations", "wikiscenes", "--only", "levels", "--levels", 1, 6, "--seeds", 0, "--work-dir", tmp_path)
    assert sorted(trainings(commands)) == [
        (),
        ("default_hooks.curriculum.levels=1",),
        ("default_hooks.curriculum.levels=6",),
    ]
    table = (tmp_path / "wikiscenes/ablations.md").read_text()
    assert [line.split(" | ")[0] for line in table.splitlines()[4:]] == ["| No training", "| 1", "| 6", "| all"]
    assert table.count("**") == 2
    with open(tmp_path / "wikiscenes/ablations.csv", newline="") as file:
        assert {record["ablation"] for record in csv.DictReader(file)} == {"", "levels"}


def test_a_config_that_is_missing_is_said_before_anything_is_run(tools, main, commands, monkeypatch, tmp_path):
    monkeypatch.setattr(tools["table"], "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=r"there is no configs/linear_openclipart\.py"):
        main("ablations", "openclipart", "--work-dir", tmp_path)
    assert commands == list(tmp_path.iterdir()) == []


def test_an_unknown_ablation_is_refused(main, capsys):
    with pytest.raises(SystemExit):
        main("ablations", "openclipart", "--only", "depth")
    assert "choose from" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main("ablations", "emoji")
    assert "invalid choice: 'emoji'" in capsys.readouterr().err


# ------------------------------------------------------------------ what the rows say to the configs
def configured(row, dataset, config_name):
    """Loads a row's config with its overrides, as the tools read them from the command line."""
    method, overrides = row
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="*", action=DictAction)
    options = parser.parse_args(["--cfg-options", *overrides]).cfg_options
    return load_config(ROOT / f"configs/{config_name(method, dataset)}.py", options)


@pytest.mark.parametrize("dataset", ["openclipart", "wikiscenes"])
def test_what_is_varied_is_what_the_config_calls_so(tools, dataset):
    rows = tools["table_rows"]
    found = {
        ablation: {s: configured(row, dataset, rows.config_name) for s, (_, row) in settings.items()}
        for ablation, settings in rows.ablations(dataset).items()
    }
    for settings in found.values():
        for config in settings.values():
            assert config.default_hooks.curriculum.type == "LevelCurriculumHook"
            assert config.train_dataloader.batch_sampler.type == "LevelTripletSampler"
    every = list(found["levels"])[-1]
    assert {s: config.default_hooks.curriculum.get("levels") for s, config in found["levels"].items()} == {
        **{str(number): number for number in (1, 2, 3, 4) if str(number) != every},
        every: None,  # all that have triplets
    }
    replay = {setting: config.train_dataloader.batch_sampler.replay for setting, config in found["replay"].items()}
    assert replay == {"0": 0, "0.25": 0.25, "0.5": 0.5, "0.75": 0.75, "1": 1}
    splits = {setting: config.train_dataloader.dataset.split for setting, config in found["data"].items()}
    if dataset == "openclipart":
        assert splits == {"small": "small", "medium": ["small", "medium"], "large": ["small", "medium", "large"]}
    else:
        tags = ["small", "small_concept", "medium", "medium_concept", "large", "large_concept"]
        assert splits == {"small": tags[:2], "medium": tags[:4], "large": tags}
    epochs = {config.train_dataloader.batch_sampler.triplets_per_epoch for config in found["data"].values()}
    assert len(epochs) == 1  # as many steps for all
    assert epochs.pop() > 1000


def test_the_rows_of_paper_b(tools):
    rows = tools["table_rows"]
    for dataset, group in (("openclipart", "paper_b"), ("wikiscenes", "paper_b"), ("wikiscenes", "towers")):
        configs = {name: configured(row, dataset, rows.config_name) for name, row in rows.GROUPS[group].items()}
        tested = {name for name, config in configs.items() if config.get("train_cfg") is None}
        assert tested == configs.keys() & {"No training", "Towers of Babel"}
        if group == "paper_b":
            assert configs["Level triplets, branch h_max"].model.loss.max_level == "branch"
            assert configs["Level triplets"].model.loss.get("max_level") is None
            assert configs["Level triplets, level 1"].default_hooks.curriculum.levels == 1
            assert configs["Leaf triplets"].train_dataloader.batch_sampler.type == "LeafTripletSampler"


def test_the_rows_of_paper_b_with_a_pretrained_encoder_are_those_from_scratch(tools):
    rows = tools["table_rows"]
    names = [name.removesuffix(" (pretrained)") for name in rows.GROUPS["paper_b_pretrained"]]
    assert set(names) <= rows.GROUPS["paper_b"].keys()
    for name in names:
        pretrained, scratch = (
            configured(row, "openclipart", rows.config_name)
            for row in (
                rows.GROUPS["paper_b_pretrained"][f"{name} (pretrained)"],
                rows.GROUPS["paper_b"][name],
            )
        )
        assert pretrained.model.loss == scratch.model.loss
        assert pretrained.default_hooks.get("curriculum") == scratch.default_hooks.get("curriculum")
        assert pretrained.model.backbone.frozen_stages == 8
        if name != "No training":
            samplers = [config.train_dataloader.batch_sampler for config in (pretrained, scratch)]
            assert len({(sampler.type, sampler.get("replay")) for sampler in samplers}) == 1
    data = [overrides for _, overrides in rows.GROUPS["paper_b_pretrained_data"].values()]
    assert data == [overrides for _, (_, overrides) in rows.ablations("openclipart")["data"].values()]


@pytest.mark.parametrize("dataset", ["openclipart", "wikiscenes"])
def test_one_name_is_one_run(tools, dataset):
    rows = tools["table_rows"]
    groups = [group for group in rows.GROUPS if group.startswith("paper_b") and dataset in rows.ONLY_FOR[group]]
    named = [pair for group in groups for pair in rows.GROUPS[group].items()]
    named += [
        pair for levels in (None, [1, 2, 7]) for s in rows.ablations(dataset, levels).values() for pair in s.values()
    ]
    named = {(name, method, tuple(overrides)) for name, (method, overrides) in named}
    assert len(named) > 12
    assert len({name for name, _, _ in named}) == len({tools["table"].slug(name) for name, _, _ in named}) == len(named)
    assert len({(method, overrides) for _, method, overrides in named}) == len(named)


def test_the_levels_of_openclipart_are_those_that_have_triplets(tools):
    assert tools["table_rows"].LEVELS["openclipart"] == (1, 2, 3, 4)
    for splits in (["small"], ["small", "medium"], ["small", "medium", "large"]):
        images = OpenClipart96(data_root=str(ROOT / "data/openclipart96"), split=splits, pipeline=[])
        assert LevelTripletSampler(images.labels, batch_size=1).levels == (1, 2, 3, 4)
        assert images.taxonomy.num_levels == 5  # and so one h_max
