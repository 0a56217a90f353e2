# Views and single images at 32 px.
_view = [
    dict(type="torchvision/RandomResizedCrop", size=32, scale=(0.2, 1.0), interpolation="bilinear"),
    dict(type="torchvision/RandomHorizontalFlip"),
    dict(
        type="RandomApply",
        transforms=[dict(type="PILColorJitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)],
        prob=0.8,
    ),
    dict(type="torchvision/RandomGrayscale", p=0.2),
]
_pack = dict(type="PackInputs", algorithm_keys=("extra_labels",), meta_keys=("sample_idx", "img_path", "split"))
train_pipeline = [dict(type="LoadRGB"), dict(type="Views", transforms=_view, num_views=2), _pack]
test_pipeline = [dict(type="LoadRGB"), _pack]
