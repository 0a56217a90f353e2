"""What opening costs, in processor time against the usual readers, which check nothing."""

import csv
import gc
import time

import pytest
from torchvision.datasets import ImageFolder

from hierpretrain.datasets import FolderDataset, ListDataset

pytestmark = pytest.mark.slow


def ratio(ours, theirs, rounds=9):
    """Returns how much longer ours takes than theirs; the best of several rounds each, in turns."""
    best = [float("inf")] * 2
    for _ in range(rounds):
        for i, opened in enumerate((ours, theirs)):
            gc.collect()
            start = time.process_time()
            opened()
            best[i] = min(best[i], time.process_time() - start)
    return best[0] / best[1]


def test_a_folder_opens_in_twice_the_time_of_torchvision(tmp_path):
    for i in range(5000):
        folder = tmp_path / f"coarse{i // 100 % 7}/fine{i // 100}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.jpg").write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF\0\1")
    assert ratio(lambda: FolderDataset(data_root=str(tmp_path)), lambda: ImageFolder(tmp_path)) <= 2


def test_a_list_opens_in_three_times_the_time_of_csv(tmp_path):
    with open(tmp_path / "list.csv", "w") as file:
        file.write("image,split,kind,family,species\n")
        for i in range(20_000):
            species = i % 200
            split = "test" if i % 5 == 0 else "train"
            file.write(f"pictures/{species}/{i:08d}.jpg,{split},kind{species % 13},family{species // 10},{species}\n")

    def read():
        with open(tmp_path / "list.csv", encoding="utf-8", newline="") as file:
            return list(csv.reader(file))

    assert ratio(lambda: ListDataset(data_root=str(tmp_path), ann_file="list.csv", check_files=False), read) <= 3
