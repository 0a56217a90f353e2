# openclipart96, which comes with the repository: 4,386 training, 627 validation, 1,253 test images in a ragged tree of
# folders, five deep, some images in several of them.
_base_ = "../pipelines/emoji48.py"


def _dataset(**options):
    return dict(type="OpenClipart96", data_root="data/openclipart96", **options)


train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=_dataset(split=["small", "medium", "large"], pipeline={{_base_.train_pipeline}}),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=1,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=_dataset(split="val", pipeline={{_base_.test_pipeline}}),
)
test_dataloader = dict(val_dataloader, dataset=_dataset(split="test", pipeline={{_base_.test_pipeline}}))

val_evaluator = [
    dict(type="RetrievalMetric", levels=["level1", "level2"]),
    dict(type="HierarchicalRetrievalMetric"),
]
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
