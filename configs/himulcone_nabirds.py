"""HiMulConE on NABirds, with the recipe of paper A; not one of the paper's experiments.

Data      docs/datasets/nabirds.md; name the folder with --data-root (default data/nabirds)
Command   python tools/train.py configs/himulcone_nabirds.py
Result    not measured
"""

_base_ = [
    "_base_/datasets/nabirds.py",
    "_base_/models/resnet50_layer4.py",
    "_base_/schedules/sgd_paper_a.py",
    "_base_/default_runtime.py",
]
model = dict(loss=dict(type="HiMulConELoss"))
train_dataloader = dict(batch_sampler=dict(type="HierarchicalBatchSampler"))
