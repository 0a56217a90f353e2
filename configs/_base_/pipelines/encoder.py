# Two views and single images of the size and the interpolation that the encoder's weights were trained with: "encoder"
# stands for both, and the preprocessor takes mean and std likewise. For natural images; a mirror image has its class.
_view = [
    dict(type="torchvision/RandomResizedCrop", size="encoder", scale=(0.3, 1.0), interpolation="encoder"),
    dict(type="torchvision/RandomHorizontalFlip"),
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
test_pipeline = [
    dict(type="LoadRGB"),
    dict(type="torchvision/Resize", size="encoder", interpolation="encoder"),
    dict(type="torchvision/CenterCrop", size="encoder"),
    _pack,
]
