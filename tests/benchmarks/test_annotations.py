import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hierpretrain.taxonomy import depth

TOOLS = Path(__file__).parents[2] / "tools/benchmarks"


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    yield importlib.import_module("annotations")
    for name in ("annotations", "measure"):
        sys.modules.pop(name, None)


def names_of(data):
    """Returns the label path of every image, by its path below the root."""
    root = f"{data._image_root}/"
    decoded = (data.taxonomy.decode(row) for row in data.labels)
    return {path.removeprefix(root): names for path, names in zip(data.image_paths, decoded, strict=True)}


def test_our_reading_of_json_agrees_with_coco_s_index(tool, tmp_path):
    tool.write_inaturalist(str(tmp_path), 400, with_files=True)
    contenders = tool.of_json(str(tmp_path))
    ours = contenders[tool.OURS]()
    expected = {}
    for index, data in zip(contenders[tool.COCO](), contenders[tool.LIMIT](), strict=True):
        assert len(index["images"]) == len(data["images"])
        for image in index["images"].values():
            (annotation,) = index["of_image"][image["id"]]
            assert image["id"] in index["of_category"][annotation["category_id"]]
            category = index["categories"][annotation["category_id"]]
            expected[image["file_name"]] = category["supercategory"], f"{category['id']:05} {category['name']}"
    assert len(expected) == 400
    assert {path: (names[0], names[-1]) for path, names in names_of(ours).items()} == expected


def test_all_see_the_same_files_of_a_tree_of_folders(tool, tmp_path):
    tool.write_folders(str(tmp_path), 1430)
    found = {name: contender() for name, contender in tool.of_folders(str(tmp_path)).items()}
    ours = names_of(found[tool.OURS])
    assert ours == names_of(found[f"{tool.OURS}, check_files=False"])
    assert len(ours) == 1430 == len(found[tool.LIMIT])
    for path, names in ours.items():
        assert path.split("/")[:-1] == list(names)
    torchvision, mmpretrain = found[tool.TORCHVISION], found[tool.MMPRETRAIN]
    samples = {Path(path).relative_to(tmp_path).as_posix(): torchvision.classes[i] for path, i in torchvision.samples}
    assert samples == {path: names[0] for path, names in ours.items()}
    rows = (mmpretrain.get_data_info(i) for i in range(len(mmpretrain)))
    samples = {Path(row["img_path"]).relative_to(tmp_path).as_posix(): row["gt_label"] for row in rows}
    assert samples == {path: mmpretrain.CLASSES.index(names[0]) for path, names in ours.items()}


def test_our_reading_of_a_list_agrees_with_its_rows(tool, tmp_path):
    tool.write_csv(str(tmp_path), 1000)
    contenders = tool.of_csv(str(tmp_path))
    ours = contenders[tool.OURS]()
    _, *rows = contenders[tool.LIMIT]()
    assert names_of(ours) == {image: tuple(names) for image, _, *names in rows}
    assert ours.splits == [split for _, split, *_ in rows]
    assert (depth(ours.labels) == 3).all()


@pytest.mark.slow
def test_it_races_and_saves_the_figures(tool, monkeypatch, capsys, tmp_path):
    sizes = ["--json", "--folders", "--csv", "100", "200", "--species-a-row", "--start", "0"]
    monkeypatch.setattr("sys.argv", ["annotations.py", "--rounds", "1", "--save", str(tmp_path), *sizes])
    tool.main()
    printed = capsys.readouterr().out
    assert printed.count("CSV: ours") == printed.count("CSV: limit") == 2
    assert {path.name for path in tmp_path.iterdir()} == {"annotations.json", "annotations.md", "annotations.png"}


def test_a_training_that_does_not_start_fails_the_command(tool, monkeypatch):
    class Process:
        exitcode = 3

        def __init__(self, target, args):
            self.start = self.join = lambda: None

    monkeypatch.setattr(tool.multiprocessing, "get_context", lambda method: SimpleNamespace(Process=Process))
    monkeypatch.setattr(
        "sys.argv", ["annotations.py", "--json", "--folders", "--csv", "--species-a-row", "--start", "100"]
    )
    with pytest.raises(SystemExit, match="the start of a training failed, with exit code 3"):
        tool.main()


def test_a_training_starts_from_the_written_files(tool, capsys, tmp_path):
    tool.write_inaturalist(str(tmp_path), 200, with_files=True)
    tool.start_of_training(str(tmp_path), SimpleNamespace(images=True, batch_size=8, workers=0))
    printed = capsys.readouterr().out
    assert "INaturalist(172 images of train" in printed
    steps = ["check_files=False", "check_files=True", "sampler", "batch of indices", "DataLoader with 0 workers"]
    positions = [printed.index(step) for step in steps]
    assert positions == sorted(positions)
