"""HiMulConE on the seen categories of ModelNet40: the recipe of paper A, section 4.

Data      docs/datasets/modelnet40.md; the split file as _base_/datasets/modelnet40.py says
Command   python tools/train.py configs/himulcone_modelnet40.py
          python tools/test.py configs/linear_modelnet40.py work_dirs/himulcone_modelnet40/epoch_100.pth
Result    not measured. The paper's split of the models was never published
"""

_base_ = [
    "_base_/datasets/modelnet40.py",
    "_base_/models/resnet50_layer4.py",
    "_base_/schedules/sgd_paper_a.py",
    "_base_/default_runtime.py",
]
model = dict(loss=dict(type="HiMulConELoss"))
train_dataloader = dict(batch_sampler=dict(type="HierarchicalBatchSampler"))
