"""The functions behind the commands: configs, runs, trained models, indexes and exports."""

from typing import TYPE_CHECKING

from hierpretrain._lazy import imported_on_demand

if TYPE_CHECKING:
    from hierpretrain.apis.answering import AnsweringIndex
    from hierpretrain.apis.answers import Answers
    from hierpretrain.apis.command import read_command, read_level
    from hierpretrain.apis.config import check_config, find_config, list_configs, load_config, nearest_names
    from hierpretrain.apis.embedding_files import read_embeddings, write_embeddings
    from hierpretrain.apis.export import export_onnx, export_program
    from hierpretrain.apis.images import config_dataset, gather_images
    from hierpretrain.apis.index import EmbeddingIndex
    from hierpretrain.apis.index_changes import Change
    from hierpretrain.apis.inferencer import EmbeddingInferencer
    from hierpretrain.apis.launch import build_runner
    from hierpretrain.apis.living import LivingIndex
    from hierpretrain.apis.milvus import MilvusIndex
    from hierpretrain.apis.neighbours import Classification, Neighbour, SearchResult
    from hierpretrain.apis.starts import check_checkpoint, check_start
    from hierpretrain.apis.thresholds import Calibration
    from hierpretrain.apis.watching import watch_with
    from hierpretrain.apis.zoo import find_model, image_retriever, mmpretrain_config, register_zoo

__all__ = [
    "AnsweringIndex",
    "Answers",
    "Calibration",
    "Change",
    "Classification",
    "EmbeddingIndex",
    "EmbeddingInferencer",
    "LivingIndex",
    "MilvusIndex",
    "Neighbour",
    "SearchResult",
    "build_runner",
    "check_checkpoint",
    "check_config",
    "check_start",
    "config_dataset",
    "export_onnx",
    "export_program",
    "find_config",
    "find_model",
    "gather_images",
    "image_retriever",
    "list_configs",
    "load_config",
    "mmpretrain_config",
    "nearest_names",
    "read_command",
    "read_embeddings",
    "read_level",
    "register_zoo",
    "watch_with",
    "write_embeddings",
]

__getattr__ = imported_on_demand(__name__)
