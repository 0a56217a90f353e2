"""SimCLR on DeepFashion In-Shop, without labels, in shuffled batches; see himulcone_deepfashion.py."""

_base_ = [
    "_base_/datasets/inshop.py",
    "_base_/models/resnet50_layer4.py",
    "_base_/schedules/sgd_paper_a.py",
    "_base_/default_runtime.py",
]
model = dict(loss=dict(type="NTXentLoss"))
