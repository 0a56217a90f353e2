# Fine-tuning EfficientNet-Lite0 (ImageNet weights) on small pictures on a CPU. Its stem and first five stages are frozen
# and run once, for eight kept views of each image; the last two stages are trained. No mirror images: arrows and hands
# tell left from right.
_base_ = ["models/efficientnet_lite0.py"]
model = dict(backbone=dict(frozen_stages=5))

_view = [
    dict(type="torchvision/RandomResizedCrop", size=96, scale=(0.3, 1.0), interpolation="bicubic"),
    dict(
        type="RandomApply",
        transforms=[dict(type="torchvision/ColorJitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)],
        prob=0.8,
    ),
    dict(type="torchvision/RandomGrayscale", p=0.2),
]
_pack = dict(type="PackInputs", algorithm_keys=("extra_labels",), meta_keys=("sample_idx", "img_path", "split"))
train_pipeline = [dict(type="LoadRGB"), dict(type="Views", transforms=_view, num_views=2), _pack]
test_pipeline = [
    dict(type="LoadRGB"),
    dict(type="torchvision/Resize", size=96, interpolation="bicubic"),
    dict(type="torchvision/CenterCrop", size=96),  # of pictures that are not square
    _pack,
]

optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min=0, by_epoch=True, begin=1, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=8, val_interval=8)
default_hooks = dict(
    frozen_features=dict(type="FrozenFeaturesHook", num_views=8, dtype="float16", evaluation=True),
)
