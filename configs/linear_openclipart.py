"""Every downstream task on a frozen encoder, on images of openclipart96 that training has never seen.

Paper B's linear layer with the AP of each class of the first level, retrieval among the test images, clustering, and
what the hierarchy adds. Images that hang in several nodes of a level have no class there and are left out.

Command   python tools/test.py configs/linear_openclipart.py CHECKPOINT      (of any <method>_openclipart.py)
          python tools/test.py configs/linear_openclipart.py                 (the encoder without training)
"""

_base_ = "himulcone_openclipart.py"
model = dict(projection=None, loss=None)  # the encoder alone
train_dataloader = train_cfg = optim_wrapper = param_scheduler = auto_scale_lr = None
val_dataloader = val_evaluator = val_cfg = None
test_dataloader = dict(dataset=dict(split=["small", "medium", "large", "val", "test"]))
_learn = ["small", "medium", "large"]
test_evaluator = [
    dict(type="AveragePrecisionMetric", levels=["level1"], train=_learn, test="test", prefix="probe"),
    dict(
        type="AveragePrecisionMetric",
        levels=["level2"],
        train=_learn,
        test="test",
        per_class=False,
        prefix="probe",
    ),
    dict(type="KNNMetric", levels=["level1", "level2"], train=_learn, test="test"),
    dict(type="RetrievalMetric", levels=["level1", "level2"], query="test", gallery="test", ks=(1, 10, 100)),
    dict(type="HierarchicalRetrievalMetric", query="test", gallery="test"),
    dict(type="ClusteringMetric", levels=["level1"], within=[("level2", "level1")], splits="test"),
    dict(type="ViolationMetric", splits="test"),
    # to choose settings by
    dict(type="AveragePrecisionMetric", levels=["level1"], train=_learn, test="val", prefix="val_probe"),
    dict(type="RetrievalMetric", levels=["level1"], query="val", gallery="val", prefix="val"),
]
test_cfg = dict(type="EmbeddingTestLoop")
default_hooks = dict(
    tsne=None,
    retrieval_sheet=None,
    recall=dict(type="RecallCurveHook", levels=["level2", "level1"], query="test", gallery="test"),
)
