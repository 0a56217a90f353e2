# CIFAR-100: 20 superclasses, 100 classes, 32 px.
_base_ = "../pipelines/cifar32.py"


def _dataset(**options):
    return dict(type="CIFAR100", data_root="data/cifar-100-python", **options)


train_dataloader = dict(
    batch_size=256,
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=_dataset(split="train", pipeline={{_base_.train_pipeline}}),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=_dataset(split="test", pipeline={{_base_.test_pipeline}}),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="RetrievalMetric", levels=["fine", "coarse"], ks=(1, 10)),
    dict(type="HierarchicalRetrievalMetric"),
]
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
