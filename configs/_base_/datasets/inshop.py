# DeepFashion In-Shop: 25,882 training images; 14,218 queries and 12,612 gallery images of products unseen in training.
# Every layout in which the set is met is found below data_root; so is a folder given by --data-root.
_view = [
    dict(type="torchvision/RandomResizedCrop", size=224, scale=(0.2, 1.0), interpolation="bilinear"),
    dict(type="torchvision/RandomHorizontalFlip"),
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
    dict(type="torchvision/Resize", size=256, interpolation="bilinear"),
    dict(type="torchvision/CenterCrop", size=224),
    _pack,
]

train_dataloader = dict(
    batch_size=512,  # of all processes together in the paper: on 8 GPUs, 64 each
    num_workers=8,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(type="InShop", data_root="data/inshop", split="train", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=8,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="InShop", data_root="data/inshop", split=["query", "gallery"], pipeline=test_pipeline),
)
test_dataloader = val_dataloader

# the benchmark's product is the plain id, a flat label: 99 products hang in two categories of the tree
val_evaluator = [
    dict(type="RetrievalMetric", levels=["product_id", "variation", "category"], ks=(1, 10, 20)),
    dict(type="ClusteringMetric", levels=["category"], within=[("product", "category")]),
]
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
