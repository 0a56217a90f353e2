# The catalogue of openclipart96: 1,639 images in and below the folder computer, for training, validation and test of classifiers by 3 : 1 : 1. It is held out whole from the split of
# openclipart96_seen.py, for a look at the end: choose no setting by them. The encoder is trained on the seen classes.
_base_ = "../pipelines/emoji48.py"


def _dataset(splits, pipeline):
    return dict(
        type="OpenClipart96",
        data_root="data/openclipart96",
        split_file="{{fileDirname}}/../splits/openclipart96_seen_unseen.json",
        split=splits,
        pipeline=pipeline,
    )


_search = dict(query="catalogue_test", gallery=["catalogue_train", "catalogue_val"])
_classify = dict(levels=["level1", "level2"], train="catalogue_train", test="catalogue_test", mistakes=True)
_group = dict(splits=["catalogue_train", "catalogue_val", "catalogue_test"])

test_dataloader = dict(
    batch_size=128,
    num_workers=1,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=_dataset(["catalogue_train", "catalogue_val", "catalogue_test"], {{_base_.test_pipeline}}),
)
test_evaluator = [
    dict(type="RetrievalMetric", levels=["level2", "level1"], ks=(1, 10, 100), **_search),
    dict(type="HierarchicalRetrievalMetric", **_search),
    dict(type="LinearProbeMetric", **_classify),
    dict(type="KNNMetric", **_classify),
    dict(type="ClusteringMetric", levels=["level1"], within=[("level2", "level1")], **_group),
    dict(type="ViolationMetric", **_group),
]
test_cfg = dict()
