# ModelNet40 as rendered views, with the ten unseen categories of Ho et al. (CVPR 2020). Which models paper A took for
# training, validation and test inside the parts was never published; ours keep the official test models and take a
# fifth of the training models for validation, all views of a model together:
#   python tools/make_split.py configs/himulcone_modelnet40.py --data-root path/to/modelnet40v1 --level category \
#       --unseen-file configs/_base_/splits/modelnet40_ho.txt --keep-splits --val-share 0.2 --unit model --seed 0 \
#       --out data/modelnet40_seen_unseen.json
_base_ = "../pipelines/views224.py"


def _splits(part, *names):
    parts = ("seen", "unseen") if part == "all" else (part,)
    return [f"{part}_{name}" for part in parts for name in names]


def _dataset(splits, pipeline):
    return dict(
        type="ModelNet40",
        data_root="data/modelnet40v1",
        split_file="data/modelnet40_seen_unseen.json",
        split=splits,
        pipeline=pipeline,
    )


# the views of one model are all of one split, so they are searched for among each other
def _search(part, *splits):
    query = dict(query=_splits(part, *splits), prefix=part)
    return [
        dict(type="RetrievalMetric", levels=["model", "category"], ks=(1, 10, 100, 1000), **query),
        dict(type="HierarchicalRetrievalMetric", **query),
    ]


def _classify(part, test):
    options = dict(levels=["category"], train=_splits(part, "train"), test=_splits(part, test), prefix=part)
    return [dict(type="LinearProbeMetric", **options), dict(type="KNNMetric", **options)]


def _group(part):
    images = dict(splits=_splits(part, "test"), prefix=part)
    return [
        dict(type="ClusteringMetric", levels=["category"], within=[("model", "category")], **images),
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
    dataset=_dataset(["seen_train", "seen_val"], {{_base_.test_pipeline}}),
)
val_evaluator = [*_search("seen", "val"), *_classify("seen", "val")]
test_dataloader = dict(
    val_dataloader, dataset=_dataset(_splits("all", "train", "val", "test"), {{_base_.test_pipeline}})
)
test_evaluator = [
    *_search("seen", "test"),
    *_search("unseen", "test"),
    *_classify("all", "test"),
    *_classify("seen", "test"),
    *_classify("unseen", "test"),
    *_group("seen"),
    *_group("unseen"),
]
val_cfg = dict()
test_cfg = dict()
