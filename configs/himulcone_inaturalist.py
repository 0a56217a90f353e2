"""HiMulConE on iNaturalist 2017: the recipe of paper A, section 4.

Data      docs/datasets/inaturalist.md; name the folder with --data-root (default data/inaturalist)
Command   python tools/train.py configs/himulcone_inaturalist.py
          python tools/test.py configs/linear_inaturalist.py work_dirs/himulcone_inaturalist/epoch_100.pth
Result    not measured. The paper's query list was never published
"""

_base_ = [
    "_base_/datasets/inaturalist.py",
    "_base_/models/resnet50_layer4.py",
    "_base_/schedules/sgd_paper_a.py",
    "_base_/default_runtime.py",
]
model = dict(loss=dict(type="HiMulConELoss"))
train_dataloader = dict(batch_sampler=dict(type="HierarchicalBatchSampler"))
