"""Every downstream task on a frozen encoder, on emoji64's own queries and gallery.

Linear classifiers (40 epochs, as in the paper) and k-NN, retrieval with recall@k for k = 1 to 1000, MAP@R, clustering,
and what the hierarchy adds. Images are embedded once and kept in the work directory.

Command   python tools/test.py configs/linear_emoji.py CHECKPOINT      (of any <method>_emoji.py)
"""

_base_ = "himulcone_emoji.py"
model = dict(projection=None, loss=None)  # the encoder alone
train_dataloader = train_cfg = optim_wrapper = param_scheduler = auto_scale_lr = None
val_dataloader = val_evaluator = val_cfg = None
test_dataloader = dict(dataset=dict(split=["train", "query", "gallery"]))
test_evaluator = [
    dict(type="LinearProbeMetric", levels=["category", "subcategory"], train="train", test="query", mistakes=True),
    dict(type="KNNMetric", levels=["category", "subcategory"], train="train", test="query", mistakes=True),
    dict(type="RetrievalMetric", levels=["emoji", "subcategory", "category"], ks=(1, 10, 100, 1000)),
    dict(type="HierarchicalRetrievalMetric"),
    dict(type="ClusteringMetric", levels=["category"], within=[("emoji", "category")], splits=["query", "gallery"]),
    dict(type="ViolationMetric", splits=["query", "gallery"]),
]
test_cfg = dict(type="EmbeddingTestLoop")
default_hooks = dict(
    tsne=None, retrieval_sheet=None, recall=dict(type="RecallCurveHook", levels=["emoji", "subcategory"])
)
