"""Data sets, their readers, transforms and samplers."""

from hierpretrain.datasets.annotations import Annotations, read_csv, read_folder, read_json, read_jsonl
from hierpretrain.datasets.base import HierarchicalDataset
from hierpretrain.datasets.emoji import Emoji64
from hierpretrain.datasets.generic import FolderDataset, ListDataset
from hierpretrain.datasets.inshop import InShop, read_inshop
from hierpretrain.datasets.loading import LoadRGB, UnreadableImage
from hierpretrain.datasets.rng import seeded
from hierpretrain.datasets.sampler import HierarchicalBatchSampler
from hierpretrain.datasets.views import Views

__all__ = [
    "Annotations",
    "Emoji64",
    "FolderDataset",
    "HierarchicalBatchSampler",
    "HierarchicalDataset",
    "InShop",
    "ListDataset",
    "LoadRGB",
    "UnreadableImage",
    "Views",
    "read_csv",
    "read_folder",
    "read_inshop",
    "read_json",
    "read_jsonl",
    "seeded",
]
