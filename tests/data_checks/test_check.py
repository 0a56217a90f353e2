"""All faults that are planted are found, and nothing else; of clean data nothing is said."""

import csv

import pytest

from hierpretrain.data_checks import KINDS, check_sources, folder_source, list_source
from hierpretrain.data_checks import pictures
from hierpretrain.datasets import FolderDataset
from tests.data_checks.plant import HUGE, noise, plant, write, write_clean


def told(found, root):
    """Returns the (kind, subject, others) of all problems, files by their paths below the root."""
    cut = f"{root}/"
    return sorted(
        (problem.kind, problem.subject.removeprefix(cut), tuple(other.removeprefix(cut) for other in problem.others))
        for problem in found.problems
    )


@pytest.fixture(autouse=True)
def _small_is_huge(monkeypatch):
    monkeypatch.setattr(pictures, "HUGE", HUGE**2)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "photos"


def test_of_a_clean_tree_nothing_is_said(root):
    names = write_clean(root)
    found = check_sources([folder_source(str(root))], workers=0)
    assert told(found, root) == []
    assert sorted(found.sources[0].images) == sorted(names)
    assert found.sources[0].images == [
        path.removeprefix(f"{root}/") for path in FolderDataset(data_root=str(root)).image_paths
    ]


def test_every_planted_fault_of_a_folder_is_found_and_nothing_else(root, tmp_path):
    write_clean(root)
    planted = plant(root, tmp_path / "outside")
    found = check_sources([folder_source(str(root))], workers=0)
    assert set(told(found, root)) ^ planted == set()
    assert len(found.problems) == len(planted)
