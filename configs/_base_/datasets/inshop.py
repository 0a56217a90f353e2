# DeepFashion In-Shop: 25,882 training images; 14,218 queries and 12,612 gallery images of products unseen in training.
# Every layout in which the set is met is found below data_root; so is a folder given by --data-root.
_base_ = "../pipelines/views224.py"


def _dataset(**options):
    return dict(type="InShop", data_root="data/inshop", **options)


train_dataloader = dict(
    batch_size=512,  # of all processes together in the paper: on 8 GPUs, 64 each
    num_workers=8,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=_dataset(split="train", pipeline={{_base_.train_pipeline}}),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=8,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=_dataset(split=["query", "gallery"], pipeline={{_base_.test_pipeline}}),
)
test_dataloader = val_dataloader

# the benchmark's product is the plain id, an extra label: 99 products hang in two categories of the tree
val_evaluator = [
    dict(type="RetrievalMetric", levels=["product_id", "variation", "category"], ks=(1, 10, 20)),
    dict(type="ClusteringMetric", levels=["category"], within=[("product", "category")]),
]
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
