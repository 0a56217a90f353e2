"""tools/benchmarks/table.py on runs that are made up."""

import csv
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from hierpretrain.files import write_whole

TOOL = Path(__file__).parent.parent / "tools/benchmarks/table.py"
ROWS = {"SupCon": ("supcon", []), "HiConE, pair": ("hicone", ["model.loss.constraint=pair"])}
RUNS = {  # row, seed -> metrics; a tenth is 10 %
    ("SupCon", 0): {"category/linear_top1": 0.5, "product_id/recall@1": 0.25, "h_ap": 0.1, "other": 3.0},
    ("SupCon", 1): {"category/linear_top1": 0.6, "product_id/recall@1": 0.25, "h_ap": 0.3, "other": 4.0},
    ("HiConE, pair", 0): {"category/linear_top1": 0.701, "product_id/recall@1": 1.0, "h_ap": 0.2, "other": 5.0},
    ("HiConE, pair", 1): {"category/linear_top1": 0.701, "product_id/recall@1": 0.9, "h_ap": 0.2, "other": 6.0},
}
PAPERS = {"Net": {"category/linear_top1": (0.7321, "A, 2016"), "product_id/recall@10": (0.5, "B, 2017")}}
# deviations by hand: of 50 and 60 it is sqrt(50), of 10 and 30 sqrt(200), of 100 and 90 sqrt(50)
MARKDOWN = """\
**Classification by a linear layer (table 1)**

|  | category top-1 |
| --- | ---: |
| SupCon | 55.0 ± 7.1 |
| HiConE, pair | 70.1 ± 0.0 |
| *Net* † | 73.2 † |

**Retrieval of the product_id (table 3)**

|  | R@1 |
| --- | ---: |
| SupCon | 25.0 ± 0.0 |
| HiConE, pair | 95.0 ± 7.1 |

**Hierarchy**

|  | H-AP |
| --- | ---: |
| SupCon | 20.0 ± 14.1 |
| HiConE, pair | 20.0 ± 0.0 |

† published, not measured here; on splits that may differ. From: A, 2016; B, 2017.
"""


@pytest.fixture
def table(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOL.parent))  # where it finds table_rows
    spec = importlib.util.spec_from_file_location("table", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(module.GROUPS, "methods", ROWS)
    monkeypatch.setattr(module, "published", lambda dataset: PAPERS)
    return module


def write_runs(folder):
    for (row, seed), metrics in RUNS.items():
        method, overrides = ROWS[row]
        run = folder / f"{row.replace(', ', '_')}_{seed}"
        (run / "test").mkdir(parents=True)
        options = [f"{method}_deepfashion", "linear_deepfashion", f"randomness.seed={seed}", "x=1", *overrides]
        (run / "done.json").write_text(json.dumps({"options": options, "metrics": metrics}))
        curve = f"k,product_id\n1,{metrics['product_id/recall@1']}\n2,1.0\n"
        (run / "test/recall.csv").write_text(curve)


def run_main(table, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["table.py", *map(str, arguments)])
    table.main()


def test_finished_runs_become_tables(table, monkeypatch, tmp_path, capsys):
    folder = tmp_path / "deepfashion"
    write_runs(folder)
    monkeypatch.setattr(table, "run", lambda *_: pytest.fail("a run that is done was started"))
    options = ("--seeds", 0, 1, "--cfg-options", "x=1", "--work-dir", tmp_path)
    run_main(table, monkeypatch, "deepfashion", *options)
    assert (folder / "table.md").read_text() == MARKDOWN
    assert capsys.readouterr().out == f"{MARKDOWN}\n"
    with open(folder / "table.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["row", "seed", "metric", "value"]
    assert {(row, int(seed)): {} for row, seed, _, _ in rows}.keys() == RUNS.keys()
    assert len(rows) == 16
    assert all(RUNS[row, int(seed)][metric] == float(value) for row, seed, metric, value in rows)
    with open(folder / "recall.csv", newline="") as file:
        header, first, second = csv.reader(file)
    assert header == ["k", "SupCon", "HiConE, pair"]
    assert list(map(float, first)) == pytest.approx([1, 0.25, 0.95])
    assert list(map(float, second)) == [2, 1, 1]
    for picture in ("recall.png", "bars.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")


def test_what_is_run(table, monkeypatch, tmp_path):
    commands = []

    def run(command, log, threads):
        commands.append([str(part) for part in command])
        work_dir = Path(command[command.index("--work-dir") + 1])
        work_dir.mkdir(exist_ok=True)
        (work_dir / "epoch_2.pth").touch()
        (work_dir / "metrics.json").write_text(json.dumps({"metrics": {"step": len(commands)}}))
        assert (log.parent, threads) == (tmp_path / "run", 3)

    monkeypatch.setattr(table, "run", run)
    folder, data = tmp_path / "run", ["--data-root", "there"]

    def measure(linear, *options):
        return table.measure("hicone_emoji", linear, list(options), data, folder, 3)

    assert measure("linear_emoji", "a=1") == {"step": 2}  # the test's
    assert commands == [
        [
            *("tools/train.py", "configs/hicone_emoji.py", "--work-dir", f"{folder}", "--resume", *data),
            *("--cfg-options", "a=1"),
        ],
        ["tools/test.py", "configs/linear_emoji.py", f"{folder}/epoch_2.pth", "--work-dir", f"{folder}/test", *data],
    ]
    assert measure("linear_emoji", "a=1") == {"step": 2}
    assert len(commands) == 2
    (folder / "left.txt").touch()
    assert measure("linear_emoji", "a=2") == {"step": 4}  # other options: all anew
    assert not (folder / "left.txt").exists()
    assert measure(None, "a=2") == {"step": 5}  # without a test, the training's
    assert not (folder / "test").exists()
    assert len(commands) == 5
    (folder / "done.json").unlink()  # as a kill leaves it
    (folder / "left.txt").touch()
    assert measure(None, "a=2") == {"step": 6}
    assert (folder / "left.txt").exists()  # the checkpoints are what --resume goes on from
    assert measure("linear_emoji", "a=2", "model.backbone.depth=34", "model.loss.x=1") == {"step": 8}
    assert not (folder / "left.txt").exists()
    assert commands[-1][-2:] == ["--cfg-options", "model.backbone.depth=34"]  # the test has no loss


def test_cells(table):
    assert table.cell([0.5], "R@1") == "50.0"
    assert table.cell([1.25, 1.75], "mistake severity seen") == "1.50 ± 0.35"
    assert table.cell([0.1, 0.2, 0.3], "R@1") == "20.0 ± 10.0"


def test_a_run_in_a_process_of_its_own(table, tmp_path):
    log = tmp_path / "log.txt"
    table.run(["-c", "import os; print(os.environ['OMP_NUM_THREADS'])"], log, 7)
    assert log.read_text() == "7\n"
    with pytest.raises(SystemExit, match=r"a run failed; see .*log\.txt"):
        table.run(["-c", "raise SystemExit(3)"], log, 1)


def test_wrong_commands(table, monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit, match=r"there is no configs/hxe_deepfashion\.py; choose other --rows or add it"):
        run_main(table, monkeypatch, "deepfashion", "--rows", "hierarchical", "--work-dir", tmp_path)
    with pytest.raises(SystemExit):
        run_main(table, monkeypatch, "deepfashion", "--development")
    assert "--development is for the data set emoji; others have validation splits" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_without_training_is_only_tested(table, monkeypatch, tmp_path):
    commands = []

    def run(command, log, threads):
        commands.append([str(part) for part in command])
        write_whole(log.parent / "test/metrics.json", b'{"metrics": {"concept/map": 0.5}}')

    monkeypatch.setattr(table, "run", run)
    rows = ["--rows", "towers", "--seeds", 3, "--data-root", "there", "--work-dir", tmp_path]
    options = ["--cfg-options", "train_cfg.max_epochs=2", "test_dataloader.batch_size=8"]
    run_main(table, monkeypatch, "wikiscenes", *rows, *options)
    folder = tmp_path / "wikiscenes/Towers_of_Babel_3"
    assert commands == [
        [
            *("tools/test.py", "configs/linear_wikiscenes_towers.py", "--work-dir", f"{folder}/test"),
            *("--data-root", "there", "--cfg-options", "randomness.seed=3", "test_dataloader.batch_size=8"),
        ]
    ]
    assert "| Towers of Babel | 50.0 |" in (tmp_path / "wikiscenes/table.md").read_text()
    options[1] = "train_cfg.max_epochs=4"  # which says nothing to a test
    run_main(table, monkeypatch, "wikiscenes", *rows, *options)
    assert len(commands) == 1


def test_what_qualifies_a_method_qualifies_its_test(table, monkeypatch, tmp_path):
    commands = []

    def run(command, log, threads):
        commands.append([str(part) for part in command])
        work_dir = Path(command[command.index("--work-dir") + 1])
        write_whole(work_dir / "epoch_2.pth", b"")
        write_whole(work_dir / "metrics.json", b'{"metrics": {"h_ap": 0.5}}')
        write_whole(work_dir / "recall.csv", b"k,level2\n1,0.5\n2,1.0\n")

    monkeypatch.setattr(table, "run", run)
    shared = "default_hooks.frozen_features.folder=/kept"
    options = ["--seeds", 0, "--cfg-options", "train_cfg.max_epochs=4", shared, "--work-dir", tmp_path]
    run_main(table, monkeypatch, "openclipart", "--rows", "paper_b_pretrained_data", "--jobs", 1, *options)
    tests = [command for command in commands if command[0] == "tools/test.py"]
    assert len(tests) == 3
    for command in tests:
        assert command[1] == "configs/linear_openclipart_lite0.py"
        assert command[-2:] == ["--cfg-options", shared]  # all runs share the features of the frozen encoder
    trained = {command[1] for command in commands if command[0] == "tools/train.py"}
    assert trained == {"configs/leveltriplet_openclipart_lite0.py"}


def test_the_rows_of_a_data_set(table, monkeypatch, capsys):
    def rows(*arguments):
        monkeypatch.setattr(sys, "argv", ["table.py", *arguments])
        return table.parse_args().rows

    assert rows("emoji_seen") == ["methods"]
    assert rows("openclipart") == ["paper_b"]
    assert rows("wikiscenes") == ["paper_b"]  # the other group takes a file of its own
    assert rows("wikiscenes", "--rows", "towers") == ["towers"]
    with pytest.raises(SystemExit):
        rows("emoji", "--rows", "methods", "paper_b")
    assert "--rows paper_b is for openclipart and wikiscenes, not for emoji" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        rows("openclipart", "--rows", "towers")
    assert "--rows towers is for wikiscenes, not for openclipart" in capsys.readouterr().err


def test_published_numbers_are_of_columns(table):
    with open(TOOL.with_name("paper_a.csv"), newline="", encoding="utf-8") as file:
        records = list(csv.DictReader(file))
    assert records
    published = sys.modules["table_rows"].published
    for record in records:
        tables = table.COLUMNS[record["dataset"]].values()
        assert record["metric"] in {metric for columns in tables for metric in columns.values()}
        number, source = published(record["dataset"])[record["row"]][record["metric"]]
        assert 0 < number == float(record["value"]) < 1
        assert source == record["source"] != ""
