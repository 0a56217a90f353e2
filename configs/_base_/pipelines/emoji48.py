# Views and single images at 48 px. No mirror images: arrows and hands tell left from right.
_view = [
    dict(type="torchvision/RandomResizedCrop", size=48, scale=(0.3, 1.0), interpolation="bilinear"),
    dict(
        type="RandomApply",
        transforms=[dict(type="torchvision/ColorJitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)],
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
triplet_pipeline = [  # one view an image
    dict(type="LoadRGB"),
    dict(type="Views", transforms=_view, num_views=1),
    _pack,
]
test_pipeline = [
    dict(type="LoadRGB"),
    dict(type="torchvision/Resize", size=48, interpolation="bilinear"),
    dict(type="torchvision/CenterCrop", size=48),  # of pictures that are not square
    _pack,
]
