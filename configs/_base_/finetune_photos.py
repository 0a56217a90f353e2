# The recommended recipe for photographs of your own, all but the images: a pretrained encoder, fine-tuned, as in
# configs/finetune_emoji.py. A config on top of it says where the images are, and what is measured: docs/your_data.md.
_base_ = [
    "models/finetuned_lite0.py",
    "pipelines/encoder.py",
    "schedules/finetune.py",
    "default_runtime.py",
]
train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=True),
)
val_dataloader = dict(batch_size=64, num_workers=2, sampler=dict(type="DefaultSampler", shuffle=False))
test_dataloader = val_dataloader
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(
    frozen_features=dict(type="FrozenFeaturesHook", num_views=4, dtype="float16", evaluation=True),
)
