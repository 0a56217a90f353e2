# emoji64, which comes with the repository: 7,461 training images, 586 queries and 1,254 gallery images of unseen emoji
# in a tree of 9 categories, 98 subcategories and 1,906 emoji.
_view = [  # no mirror images: arrows and hands tell left from right
    dict(type="torchvision/RandomResizedCrop", size=48, scale=(0.3, 1.0), interpolation="bilinear"),
    dict(
        type="RandomApply",
        transforms=[dict(type="torchvision/ColorJitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)],
        prob=0.8,
    ),
    dict(type="torchvision/RandomGrayscale", p=0.2),
]
_pack = dict(type="PackInputs", algorithm_keys=("flat_label",), meta_keys=("sample_idx", "img_path", "split"))
train_pipeline = [
    dict(type="LoadRGB"),
    dict(type="Views", transforms=_view, num_views=2),
    _pack,
]
test_pipeline = [
    dict(type="LoadRGB"),
    dict(type="torchvision/Resize", size=48, interpolation="bilinear"),
    _pack,
]

train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(type="Emoji64", data_root="data/emoji64", split="train", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=1,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="Emoji64", data_root="data/emoji64", split=["query", "gallery"], pipeline=test_pipeline),
)
test_dataloader = val_dataloader

val_evaluator = [
    dict(type="RetrievalMetric", levels=["emoji", "subcategory", "category"]),
    dict(type="ClusteringMetric", levels=["category"], within=[("emoji", "category")]),
]
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
