# Two views of 224 px as in SupCon, and single images by a resize to 256 px and a crop from the centre.
_view = [
    dict(type="torchvision/RandomResizedCrop", size=224, scale=(0.2, 1.0), interpolation="bilinear"),
    dict(type="torchvision/RandomHorizontalFlip"),
    dict(
        type="RandomApply",
        transforms=[dict(type="PILColorJitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)],
        prob=0.8,
    ),
    dict(type="torchvision/RandomGrayscale", p=0.2),
]
_pack = dict(type="PackInputs", algorithm_keys=("extra_labels",), meta_keys=("sample_idx", "img_path", "split"))
train_pipeline = [
    dict(type="LoadRGB"),
    dict(type="Views", transforms=_view, num_views=2),
    _pack,
]
test_pipeline = [
    dict(type="LoadRGB"),
    dict(type="torchvision/Resize", size=256, interpolation="bilinear"),
    dict(type="torchvision/CenterCrop", size=224),
    _pack,
]
