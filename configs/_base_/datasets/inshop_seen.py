# DeepFashion In-Shop with unseen categories, as in paper A. The paper's lists of categories were never published; ours
# is a file that everyone makes alike, from the seed, inside the benchmark's own train, query and gallery images; a
# tenth of the training products are for validation:
#   python tools/make_split.py configs/himulcone_deepfashion.py --data-root path/to/inshop --level category \
#       --unseen-share 0.3 --keep-splits --val-share 0.1 --unit product_id --seed 0 --out data/inshop_seen_unseen.json
_base_ = "../pipelines/views224.py"


def _splits(part, *names):
    parts = ("seen", "unseen") if part == "all" else (part,)
    return [f"{part}_{name}" for part in parts for name in names]


def _dataset(splits, pipeline):
    return dict(
        type="InShop",
        data_root="data/inshop",
        split_file="data/inshop_seen_unseen.json",
        split=splits,
        pipeline=pipeline,
    )


def _search(part, **sets):
    sets = sets or dict(query=_splits(part, "query"), gallery=_splits(part, "gallery"))
    sets["prefix"] = part
    return [
        dict(type="RetrievalMetric", levels=["product", "variation", "category"], ks=(1, 10, 100, 1000), **sets),
        dict(type="HierarchicalRetrievalMetric", **sets),
    ]


def _classify(part):
    options = dict(levels=["category"], train=_splits(part, "train"), test=_splits(part, "query"), prefix=part)
    return [dict(type="LinearProbeMetric", **options), dict(type="KNNMetric", **options)]


def _group(part):
    images = dict(splits=_splits(part, "query", "gallery"), prefix=part)
    return [
        dict(type="ClusteringMetric", levels=["category"], within=[("product", "category")], **images),
        dict(type="ViolationMetric", **images),
    ]


train_dataloader = dict(
    batch_size=512,  # of all processes together in the paper: on 8 GPUs, 64 each
    num_workers=8,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=_dataset("seen_train", {{_base_.train_pipeline}}),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=8,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=_dataset("seen_val", {{_base_.test_pipeline}}),
)
val_evaluator = _search("seen", query="seen_val")  # each image of these products among the others
test_dataloader = dict(
    val_dataloader, dataset=_dataset(_splits("all", "train", "query", "gallery"), {{_base_.test_pipeline}})
)
test_evaluator = [
    *_search("seen"),
    *_search("unseen"),
    *_classify("all"),
    *_classify("seen"),
    *_classify("unseen"),
    *_group("seen"),
    *_group("unseen"),
]
val_cfg = dict()
test_cfg = dict()
