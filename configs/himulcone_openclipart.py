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
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min=0, by_epoch=True, begin=1, end=6, convert_to_iter_based=True),
]
custom_hooks = [
    dict(type="ExactResumeHook"),
    dict(type="SyncBuffersHook"),
    dict(type="MetricsFileHook"),
    dict(type="TSNEHook", level=1),
    dict(type="RetrievalSheetHook", level=1),
    dict(type="TaxonomyHook"),
]
