# emoji64, which comes with the repository: 7,461 training images, 586 queries and 1,254 gallery images of unseen emoji
# in a tree of 9 categories, 98 subcategories and 1,906 emoji.
_base_ = "../pipelines/emoji48.py"


def _dataset(**options):
    return dict(type="Emoji64", data_root="data/emoji64", **options)


train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=_dataset(split="train", pipeline={{_base_.train_pipeline}}),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=1,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=_dataset(split=["query", "gallery"], pipeline={{_base_.test_pipeline}}),
)
test_dataloader = val_dataloader

val_evaluator = [
    dict(type="RetrievalMetric", levels=["emoji", "subcategory", "category"]),
    dict(type="ClusteringMetric", levels=["category"], within=[("emoji", "category")]),
]
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
