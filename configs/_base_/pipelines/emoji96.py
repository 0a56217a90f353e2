# Views and single images at 96 px, for pretrained encoders. No mirror images: arrows and hands tell left from right.
_view96 = [
    dict(type="torchvision/RandomResizedCrop", size=96, scale=(0.3, 1.0), interpolation="bicubic"),
    dict(
        type="RandomApply",
        transforms=[dict(type="PILColorJitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)],
        prob=0.8,
    ),
    dict(type="torchvision/RandomGrayscale", p=0.2),
]
_pack96 = dict(type="PackInputs", algorithm_keys=("extra_labels",), meta_keys=("sample_idx", "img_path", "split"))
train_pipeline96 = [dict(type="LoadRGB"), dict(type="Views", transforms=_view96, num_views=2), _pack96]
triplet_pipeline96 = [  # one view an image
    dict(type="LoadRGB"),
    dict(type="Views", transforms=_view96, num_views=1),
    _pack96,
]
test_pipeline96 = [
    dict(type="LoadRGB"),
    dict(type="torchvision/Resize", size=96, interpolation="bicubic"),
    dict(type="torchvision/CenterCrop", size=96),  # of pictures that are not square
    _pack96,
]
