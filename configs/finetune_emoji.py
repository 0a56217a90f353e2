"""The recommended recipe on emoji64, the data set in the repository, on a CPU: a pretrained encoder, fine-tuned.

EfficientNet-Lite0 with ImageNet weights from the package index. Its stem and first five stages are frozen and run once,
for four kept views of each image; the last two stages are trained with the joint loss, margins over the tree and
classification at each of its levels.

Command   python tools/train.py configs/finetune_emoji.py      (after pip install -e '.[demo]')
Vary      train_cfg.max_epochs; default_hooks.frozen_features.num_views; model.backbone.frozen_stages; model.loss.weight
"""

_base_ = [
    "_base_/datasets/emoji64.py",
    "_base_/pipelines/emoji96.py",
    "_base_/models/finetuned_lite0.py",
    "_base_/schedules/finetune.py",
    "_base_/default_runtime.py",
]
model = dict(backbone=dict(image_size=96))
train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline96}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline96}}))
test_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline96}}))
train_cfg = dict(max_epochs=4, val_interval=4)
default_hooks = dict(
    frozen_features=dict(type="FrozenFeaturesHook", num_views=4, dtype="float16", evaluation=True),
)
