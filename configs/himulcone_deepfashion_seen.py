"""HiMulConE on the seen categories of DeepFashion In-Shop, to be tested on seen and unseen ones: paper A, section 4.

Data      docs/datasets/inshop.md; the split file as _base_/datasets/inshop_seen.py says
Command   python tools/train.py configs/himulcone_deepfashion_seen.py
          python tools/test.py configs/linear_deepfashion_seen.py work_dirs/himulcone_deepfashion_seen/epoch_100.pth
Result    not measured. The paper's lists of seen and unseen categories were never published
"""

_base_ = [
    "_base_/datasets/inshop_seen.py",
    "_base_/models/resnet50_layer4.py",
    "_base_/schedules/sgd_paper_a.py",
    "_base_/default_runtime.py",
]
model = dict(loss=dict(type="HiMulConELoss"))
train_dataloader = dict(batch_sampler=dict(type="HierarchicalBatchSampler"))
