"""Checks of a data set: files, pictures, duplicates, names, the tree, columns, and labels by a trained model."""

from typing import TYPE_CHECKING

from hierpretrain._lazy import imported_on_demand

if TYPE_CHECKING:
    from hierpretrain.data_checks.check import DataCheck, check_sources
    from hierpretrain.data_checks.labels import label_problems
    from hierpretrain.data_checks.problems import Problem, write_problems
    from hierpretrain.data_checks.source_config import config_sources
    from hierpretrain.data_checks.source_folder import folder_source
    from hierpretrain.data_checks.source_index import index_source, is_index
    from hierpretrain.data_checks.source_list import list_source
    from hierpretrain.data_checks.sources import Source

__all__ = [
    "DataCheck",
    "Problem",
    "Source",
    "check_sources",
    "config_sources",
    "folder_source",
    "index_source",
    "is_index",
    "label_problems",
    "list_source",
    "write_problems",
]

__getattr__ = imported_on_demand(__name__)
