"""Every downstream task on a frozen encoder, on ImageNet.

Linear classifiers (40 epochs, as in the paper) and k-NN, retrieval with recall@k for k = 1 to 1000, MAP@R, clustering,
and what the hierarchy adds. Images are embedded once and kept in the work directory.

Command   python tools/test.py configs/linear_imagenet.py CHECKPOINT      (of any <method>_imagenet.py)
"""

_base_ = "himulcone_imagenet.py"
model = dict(projection=None, loss=None)  # the encoder alone
train_dataloader = train_cfg = optim_wrapper = param_scheduler = auto_scale_lr = None
val_dataloader = val_evaluator = val_cfg = None
test_dataloader = dict(dataset=dict(split=["train", "val"]))
test_evaluator = [
    dict(type="LinearProbeMetric", levels=["class", "superclass"], train="train", test="val", mistakes=True),
    dict(type="KNNMetric", levels=["class", "superclass"], train="train", test="val", mistakes=True),
    dict(type="RetrievalMetric", levels=["class", "superclass"], ks=(1, 10, 100), query="val"),
    dict(type="HierarchicalRetrievalMetric", query="val"),
    dict(type="ClusteringMetric", levels=["superclass"], within=[("class", "superclass")], splits="val"),
    dict(type="ViolationMetric", splits="val"),
]
test_cfg = dict(type="EmbeddingTestLoop")
default_hooks = dict(
    tsne=None, retrieval_sheet=None, recall=dict(type="RecallCurveHook", levels=["class"], query="val")
)
