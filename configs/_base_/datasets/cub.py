# CUB-200-2011: 100 species to train; each image of the 100 others is a query among the rest.
_base_ = "../pipelines/views224.py"


def _dataset(**options):
    return dict(type="CUB200", data_root="data/CUB_200_2011", **options)


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
    dict(type="RetrievalMetric", levels=["species", "kind"], ks=(1, 2, 4, 8)),
    dict(type="HierarchicalRetrievalMetric"),
]
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
