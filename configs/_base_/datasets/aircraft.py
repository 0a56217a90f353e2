# FGVC-Aircraft: manufacturer, family and variant; the banner of 20 pixels at the foot of each image is cut off.
_base_ = "../pipelines/views224.py"

_load, *_views = _base_.train_pipeline
train_pipeline = [_load, dict(type="CropBottom", pixels=20), *_views]
_load, *_single = _base_.test_pipeline
test_pipeline = [_load, dict(type="CropBottom", pixels=20), *_single]


def _dataset(**options):
    return dict(type="FGVCAircraft", data_root="data/fgvc-aircraft-2013b", **options)


train_dataloader = dict(
    batch_size=128,
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=_dataset(split=["train", "val"], pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=_dataset(split="test", pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="RetrievalMetric", levels=["variant", "family", "manufacturer"], ks=(1, 10)),
    dict(type="HierarchicalRetrievalMetric"),
]
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
