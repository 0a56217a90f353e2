# DyML: animals (or vehicles, or products) at three levels; the test set is the one of the finest level.
# Others: docs/datasets/dyml.md.
_base_ = "../pipelines/views224.py"


def _dataset(**options):
    return dict(type="DyML", data_root="data/dyml_animal", subset="animal", **options)


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
    dataset=_dataset(benchmark="fine", split=["query", "gallery"], pipeline={{_base_.test_pipeline}}),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="RetrievalMetric", levels=["fine"], ks=(1, 10)),
    dict(type="HierarchicalRetrievalMetric"),
]
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
