"""One policy for files and links that cannot be read: an error, or left out and listed with the reason."""

import copy
import json
import multiprocessing
import os
import pickle
from pathlib import Path

import pytest
from mmengine.config import Config
from torch.utils.data import DataLoader

from hierpretrain.apis.images import config_dataset, gather_images
from hierpretrain.datasets import ConcatDataset, FolderDataset, ListDataset, UnreadableImage
from hierpretrain.datasets.folders import walk_folder
from hierpretrain.datasets.on_error import Skipped, write_skipped
from tests.datasets.trees import write_image

PIPELINE = [dict(type="LoadRGB"), lambda item: os.path.basename(item["img_path"])]


@pytest.fixture
def root(tmp_path):
    """A folder with two good images, a broken one, a link that is broken and two that lead out."""
    root = tmp_path / "root"
    for name in ("cat/1.png", "cat/2.png"):
        write_image(root / name, "red")
    write_image(tmp_path / "secret/3.png", "red")
    (root / "cat/none.jpg").write_text("BMW 320i, red")
    (root / "cat/gone.png").symlink_to(root / "nowhere.png")
    (root / "cat/out.png").symlink_to(tmp_path / "secret/3.png")
    (root / "dog").symlink_to(tmp_path / "secret")
    return root


def reasons(skipped, root):
    return {os.path.relpath(path, root): reason for path, reason in skipped.items()}


LINKS = {"cat/gone.png": "is a broken link", "cat/out.png": "leads out of the image folder", "dog": "leads out of"}


@pytest.mark.parametrize("bad", LINKS)
def test_a_link_is_an_error(root, bad):
    for other in LINKS.keys() - {bad}:
        (root / other).unlink()
    for read in (lambda: FolderDataset(data_root=str(root)), lambda: gather_images(root)):
        with pytest.raises(ValueError, match=rf"{bad} is a .*link"):
            read()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_links_and_files_are_left_out_of_a_folder_and_listed(root, logged, num_workers):
    data = FolderDataset(data_root=str(root), pipeline=PIPELINE, on_error="skip")
    assert data.image_paths == [str(root / f"cat/{name}") for name in ("1.png", "2.png", "none.jpg")]
    found = reasons(data.skipped, root)
    assert found.keys() == LINKS.keys()
    assert all(part in found[name] for name, part in LINKS.items())
    assert len(logged) == 1
    assert "skipped 3" in logged[0]
    assert list(DataLoader(data, batch_size=None, num_workers=num_workers)) == ["1.png", "2.png", "1.png"]
    found = reasons(data.skipped, root)
    assert found.keys() == {*LINKS, "cat/none.jpg"}
    assert "cannot identify image file" in found["cat/none.jpg"]
    assert data.num_skipped == 4


def test_a_list_leaves_out_what_is_missing(root, logged):
    (root / "list.csv").write_text("image,kind\ncat/1.png,cat\ncat/9.png,dog\ncat/out.png,dog\ndog/3.png,eel\n")
    options = dict(data_root=str(root), ann_file="list.csv")
    with pytest.raises(ValueError, match="is a link that leads out of the image folder"):
        ListDataset(**options)
    data = ListDataset(**options, on_error="skip")
    assert data.image_paths == [str(root / "cat/1.png")]
    assert data.labels.tolist() == [[0]]
    found = reasons(data.skipped, root)
    assert found.keys() == {"cat/9.png", "cat/out.png", "dog/3.png"}
    assert found["cat/9.png"] == f"there is no file {root}/cat/9.png"
    (root / "cat/1.png").unlink()
    with pytest.raises(UnreadableImage, match=r"none of the 4 images of the list .*; the first: there is no"):
        ListDataset(**options, on_error="skip")


def test_commands_leave_out_the_same(root, logged):
    found = gather_images([root, root / "cat/1.png"], on_error="skip")
    assert [os.path.basename(path) for path in found.paths] == ["1.png", "2.png", "none.jpg", "1.png"]
    assert reasons(found.skipped, root).keys() == LINKS.keys()
    listed = root / "list.csv"
    listed.write_text("image\ncat/1.png\ncat/9.png\n")
    assert reasons(gather_images(listed, on_error="skip").skipped, root).keys() == {"cat/9.png"}


def test_parts_of_a_config_have_the_policy_of_the_command(root, logged):
    part = dict(type="FolderDataset", data_root=str(root))
    joined = dict(type="ConcatDataset", datasets=[dict(type="RepeatDataset", times=2, dataset=part)])
    for dataset in (part, joined):
        data = config_dataset(Config(dict(test_dataloader=dict(dataset=dataset))), on_error="skip")
        assert reasons(data.skipped, root).keys() == LINKS.keys()
        with pytest.raises(ValueError, match="link"):
            config_dataset(Config(dict(test_dataloader=dict(dataset=dataset))))


def test_joined_data_sets_list_what_their_parts_skipped(root, logged):
    part = FolderDataset(data_root=str(root), pipeline=PIPELINE, on_error="skip")
    data = ConcatDataset([part, part])
    data[2]
    assert data.skipped == part.skipped
    assert data.num_skipped == 4


@pytest.mark.parametrize(
    "made", [FolderDataset, lambda data_root, on_error: gather_images(data_root, on_error=on_error)]
)
def test_a_bad_value_names_the_permitted_ones(root, made):
    with pytest.raises(ValueError, match="on_error must be 'error' or 'skip'; it is 'replace'"):
        made(data_root=str(root), on_error="replace")
    with pytest.raises(ValueError, match="on_error must be 'error' or 'skip'; it is None"):
        walk_folder(str(root), on_error=None)


def test_a_folder_that_cannot_be_listed(root, monkeypatch):
    for name in LINKS:
        (root / name).unlink()
    write_image(root / "shut/1.png", "red")
    real = os.scandir

    def scandir(path):
        if os.path.basename(path) == "shut":  # root may list any folder, so that chmod would not do
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    reason = f"cannot open {root}/shut: Permission denied; make it readable or remove it"
    with pytest.raises(ValueError, match=reason):
        walk_folder(str(root))
    assert walk_folder(str(root), on_error="skip").skipped == {"shut": reason}


def test_the_name_of_an_image_counts_and_of_other_files_the_content(tmp_path):
    write_image(tmp_path / "cat/picture", "red", format="PNG")
    write_image(tmp_path / "cat/picture.dat", "red", format="JPEG")
    (tmp_path / "cat/notes.txt").write_text("BMW 320i, red, two owners")
    (tmp_path / "cat/empty.JPG").touch()
    found = walk_folder(str(tmp_path))
    assert found.images == ["cat/empty.JPG", "cat/picture", "cat/picture.dat"]
    assert found.others == ["cat/notes.txt"]


# ---------------------------------------------------------------- the list itself
def _add(skipped, number):
    for i in range(20):
        skipped.add(f"{number}/{i}.jpg", f"process {number}" * 20)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_all_processes_add_to_one_list(method):
    skipped = Skipped({"known.jpg": "it is known"})
    context = multiprocessing.get_context(method)
    processes = [context.Process(target=_add, args=(skipped, number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(skipped.to_dict()) == 61
    assert skipped.to_dict()["2/7.jpg"] == "process 2" * 20


def test_the_first_reason_counts_and_copies_are_their_own():
    skipped = Skipped({})
    skipped.add("a.jpg", "first")
    skipped.add("a.jpg", "second")
    other = copy.deepcopy(skipped)
    other.add("b.jpg", "of the copy")
    assert skipped.to_dict() == {"a.jpg": "first"}
    assert other.to_dict() == {"a.jpg": "first", "b.jpg": "of the copy"}
    file, moved = Path(skipped._file), pickle.dumps(skipped)
    del skipped
    assert not file.exists()
    assert pickle.loads(moved).to_dict() == {}


def test_names_of_any_bytes_are_listed(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    skipped = Skipped({})
    skipped.add(name, "it is truncated")
    assert skipped.to_dict() == {name: "it is truncated"}
    write_skipped(tmp_path / "skipped.json", {"b": "2", name: "1"})
    assert json.loads((tmp_path / "skipped.json").read_text()) == {"b": "2", name: "1"}
