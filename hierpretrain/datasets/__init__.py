"""Data sets, their readers, transforms and samplers."""

from typing import TYPE_CHECKING

from hierpretrain._lazy import imported_on_demand

if TYPE_CHECKING:
    from hierpretrain.datasets.aircraft import CropBottom, FGVCAircraft, read_aircraft
    from hierpretrain.datasets.annotations import Annotations
    from hierpretrain.datasets.base import HierarchicalDataset
    from hierpretrain.datasets.cars import Cars196, read_cars
    from hierpretrain.datasets.cifar import CIFAR100, read_cifar100
    from hierpretrain.datasets.class_balanced import ClassBalancedDataset
    from hierpretrain.datasets.color import PILColorJitter
    from hierpretrain.datasets.cub import CUB200, read_cub
    from hierpretrain.datasets.dyml import DyML, read_dyml
    from hierpretrain.datasets.emoji import Emoji64
    from hierpretrain.datasets.folders import read_folder
    from hierpretrain.datasets.generic import FolderDataset, ListDataset
    from hierpretrain.datasets.hierarchy import ClassHierarchy, LeafPaths
    from hierpretrain.datasets.hugging_face import HuggingFaceDataset
    from hierpretrain.datasets.imagenet import ImageNet
    from hierpretrain.datasets.inaturalist import INaturalist, read_inaturalist
    from hierpretrain.datasets.inshop import InShop, read_inshop
    from hierpretrain.datasets.joined import ConcatDataset, RepeatDataset
    from hierpretrain.datasets.lists import read_csv, read_json, read_jsonl, read_list
    from hierpretrain.datasets.loading_transforms import LoadRGB
    from hierpretrain.datasets.modelnet import MODELNET_UNSEEN, ModelNet40, read_modelnet40
    from hierpretrain.datasets.nabirds import NABirds, read_nabirds
    from hierpretrain.datasets.on_error import UnreadableImage
    from hierpretrain.datasets.openclipart import OpenClipart96
    from hierpretrain.datasets.rng import seeded
    from hierpretrain.datasets.sampler import HierarchicalBatchSampler
    from hierpretrain.datasets.sop import StanfordOnlineProducts, read_sop
    from hierpretrain.datasets.split_files import Split
    from hierpretrain.datasets.splits import renewed_split, seen_unseen_split, share_split
    from hierpretrain.datasets.torchvision_objects import TorchvisionDataset
    from hierpretrain.datasets.triplet_sampler import LeafTripletSampler, LevelTripletSampler
    from hierpretrain.datasets.views import Views
    from hierpretrain.datasets.web_dataset import WebDataset
    from hierpretrain.datasets.wikiscenes import WikiScenes, read_wikiscenes
    from hierpretrain.datasets.wordnet import read_hierarchy

__all__ = [
    "CIFAR100",
    "CUB200",
    "MODELNET_UNSEEN",
    "Annotations",
    "Cars196",
    "ClassBalancedDataset",
    "ClassHierarchy",
    "ConcatDataset",
    "CropBottom",
    "DyML",
    "Emoji64",
    "FGVCAircraft",
    "FolderDataset",
    "HierarchicalBatchSampler",
    "HierarchicalDataset",
    "HuggingFaceDataset",
    "INaturalist",
    "ImageNet",
    "InShop",
    "LeafPaths",
    "LeafTripletSampler",
    "LevelTripletSampler",
    "ListDataset",
    "LoadRGB",
    "ModelNet40",
    "NABirds",
    "OpenClipart96",
    "PILColorJitter",
    "RepeatDataset",
    "Split",
    "StanfordOnlineProducts",
    "TorchvisionDataset",
    "UnreadableImage",
    "Views",
    "WebDataset",
    "WikiScenes",
    "read_aircraft",
    "read_cars",
    "read_cifar100",
    "read_csv",
    "read_cub",
    "read_dyml",
    "read_folder",
    "read_hierarchy",
    "read_inaturalist",
    "read_inshop",
    "read_json",
    "read_jsonl",
    "read_list",
    "read_modelnet40",
    "read_nabirds",
    "read_sop",
    "read_wikiscenes",
    "renewed_split",
    "seeded",
    "seen_unseen_split",
    "share_split",
]

__getattr__ = imported_on_demand(__name__)
