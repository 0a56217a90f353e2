"""HiMulConE on CIFAR-100, with the recipe of paper A; not one of the paper's experiments.

Data      docs/datasets/cifar100.md; name the folder with --data-root (default data/cifar-100-python)
Command   python tools/train.py configs/himulcone_cifar100.py
Result    not measured
"""

_base_ = [
    "_base_/datasets/cifar100.py",
    "_base_/models/resnet18_cifar.py",
    "_base_/schedules/sgd_paper_a.py",
    "_base_/default_runtime.py",
]
model = dict(loss=dict(type="HiMulConELoss"))
train_dataloader = dict(batch_sampler=dict(type="HierarchicalBatchSampler"))
