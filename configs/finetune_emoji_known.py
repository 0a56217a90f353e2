"""The recommended recipe on the seen classes of emoji64: what an index makes of classes that it does not know.

All but the data is finetune_emoji.py. Of the 98 subcategories 20 are unseen in training.

Command   python tools/train.py configs/finetune_emoji_known.py
          python tools/benchmarks/unknown.py emoji      (calibration, and unknown classes)
"""

_base_ = [
    "_base_/datasets/emoji64_seen.py",
    "_base_/pipelines/emoji96.py",
    "_base_/models/finetuned_lite0.py",
    "_base_/schedules/finetune.py",
    "_base_/default_runtime.py",
]
model = dict(backbone=dict(image_size=96))
train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline96}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline96}}))
test_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline96}}))
default_hooks = dict(
    frozen_features=dict(type="FrozenFeaturesHook", num_views=4, dtype="float16", evaluation=True),
    tsne=None,
    retrieval_sheet=None,
)
