"""HiMulConE on ImageNet from scratch: the recipe of paper A, section 4.

Data      docs/datasets/imagenet.md; name the folder with --data-root (default data/imagenet), and the class hierarchy
          in the configs' data sets (default data/imagenet/data.noun, WordNet 3.0)
Command   python tools/train.py configs/himulcone_imagenet.py
          python tools/test.py configs/linear_imagenet.py work_dirs/himulcone_imagenet/epoch_100.pth
Result    not measured. Which cut of the hierarchy the paper took is not known
"""

_base_ = [
    "_base_/datasets/imagenet.py",
    "_base_/models/resnet50.py",
    "_base_/schedules/sgd_paper_a.py",
    "_base_/default_runtime.py",
]
model = dict(loss=dict(type="HiMulConELoss"))
train_dataloader = dict(batch_sampler=dict(type="HierarchicalBatchSampler"))
