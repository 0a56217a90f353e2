"""What commands and other programs call: from a config to a run."""

from hierpretrain.apis.command import read_command, read_level
from hierpretrain.apis.config import check_config, load_config, nearest_names
from hierpretrain.apis.launch import build_runner, check_checkpoint

__all__ = [
    "build_runner",
    "check_checkpoint",
    "check_config",
    "load_config",
    "nearest_names",
    "read_command",
    "read_level",
]
