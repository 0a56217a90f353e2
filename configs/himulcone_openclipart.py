"""HiMulConE (paper A) on openclipart96, a ragged tree in which some images hang in several folders.

Command   python tools/train.py configs/himulcone_openclipart.py
"""

_base_ = [
    "_base_/datasets/openclipart96.py",
    "_base_/models/resnet18_half.py",
    "_base_/schedules/adamw_cpu.py",
    "_base_/default_runtime.py",
]
model = dict(loss=dict(type="HiMulConELoss"))
train_dataloader = dict(batch_sampler=dict(type="HierarchicalBatchSampler"))
train_cfg = dict(max_epochs=6, val_interval=6)
default_hooks = dict(retrieval_sheet=dict(level=1))
