_base_ = [
    "_base_/datasets/emoji64.py",
    "_base_/models/resnet18_half.py",
    "_base_/schedules/adamw_cpu.py",
    "_base_/default_runtime.py",
]
model = dict(loss=dict(type="HiConELoss"))
train_dataloader = dict(batch_sampler=dict(type="HierarchicalBatchSampler"))
