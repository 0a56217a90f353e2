"""From a checked config to a runner, on one process or many, with or without a GPU."""

from __future__ import annotations

import os
import pickle
import subprocess

import torch
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner

from hierpretrain import registry
from hierpretrain.apis.config import DATALOADERS


def build_runner(config: Config) -> Runner:
    """Builds the runner of a config, whose ``launcher`` may also start processes that have no GPU.

    Dataloaders collate as mmpretrain's do and keep their workers, unless the config says otherwise.
    """
    for key in DATALOADERS:
        if config.get(key):
            defaults = dict(
                collate_fn=dict(type="default_collate"),
                persistent_workers=config[key].get("num_workers", 0) > 0,
                pin_memory=torch.cuda.is_available(),
            )
            config[key] = ConfigDict({**defaults, **config[key]})
    if config.get("launcher", "none") != "none" and not torch.cuda.is_available():
        _start_processes_on_cpu(config)
    if "runner_type" in config:
        return registry.RUNNERS.build(config)
    return Runner.from_cfg(config)


def load_weights(runner: Runner, checkpoint: str) -> None:
    """Loads a checkpoint into a runner's model, every weight of it.

    MMEngine would go on with the random weights of whatever a checkpoint lacks, and evaluate those.

    Raises:
        ValueError: If the file is missing, no checkpoint, or that of another model.
    """
    if not os.path.isfile(checkpoint):
        raise ValueError(f"there is no checkpoint {checkpoint}")
    try:
        runner.load_checkpoint(checkpoint, strict=True)
    except (RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{checkpoint} is no checkpoint of the config's model, or is damaged; give the config that it was trained "
            f"with, and the same --cfg-options. {error}"
        ) from error


def _start_processes_on_cpu(config: Config) -> None:
    """Does what MMEngine does for its launchers, without the GPU that it takes for granted."""
    if config.launcher == "slurm":
        _take_over_slurm_environment()
    elif config.launcher != "pytorch":
        raise ValueError(
            f"without a GPU, launcher must be 'none', 'pytorch' or 'slurm'; it is {config.launcher!r}. "
            "Start the processes with torchrun and --launcher pytorch"
        )
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
    config.env_cfg.dist_cfg = dict(backend="gloo")
    config.setdefault("model_wrapper_cfg", {})
    config.model_wrapper_cfg.update(type="MMDistributedDataParallel", device_ids=None, broadcast_buffers=False)
    config.model_wrapper_cfg.setdefault("find_unused_parameters", config.get("find_unused_parameters", False))


def _take_over_slurm_environment() -> None:
    if "MASTER_ADDR" not in os.environ:
        nodes = os.environ["SLURM_NODELIST"]
        hosts = subprocess.run(["scontrol", "show", "hostname", nodes], check=True, capture_output=True, text=True)
        os.environ["MASTER_ADDR"] = hosts.stdout.split()[0]
    os.environ.setdefault("MASTER_PORT", "29500")
    os.environ["RANK"] = os.environ["SLURM_PROCID"]
    os.environ["WORLD_SIZE"] = os.environ["SLURM_NTASKS"]
    os.environ["LOCAL_RANK"] = os.environ["SLURM_LOCALID"]
