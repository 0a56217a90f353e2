# Cars-196: 98 models to train; each image of the 98 others is a query among the rest.
_base_ = "../pipelines/views224.py"


def _dataset(**options):
    return dict(type="Cars196", data_root="data/cars", **options)


train_dataloader = dict(
    batch_size=128,
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
    dict(type="RetrievalMetric", levels=["car", "body"], ks=(1, 2, 4, 8)),
    dict(type="HierarchicalRetrievalMetric"),
]
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
