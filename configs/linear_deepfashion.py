"""Every downstream task on a frozen encoder, on DeepFashion In-Shop's own queries and gallery.

Linear classifiers (40 epochs, as in the paper) and k-NN, retrieval with recall@k for k = 1 to 1000, MAP@R, clustering,
and what the hierarchy adds. Images are embedded once and kept in the work directory.

Command   python tools/test.py configs/linear_deepfashion.py CHECKPOINT      (of any <method>_deepfashion.py)
"""

_base_ = "himulcone_deepfashion.py"
model = dict(projection=None, loss=None)  # the encoder alone
train_dataloader = train_cfg = optim_wrapper = param_scheduler = auto_scale_lr = None
val_dataloader = val_evaluator = val_cfg = None
test_dataloader = dict(dataset=dict(split=["train", "query", "gallery"]))
test_evaluator = [
    dict(type="LinearProbeMetric", levels=["category"], train="train", test="query"),
    dict(type="KNNMetric", levels=["category"], train="train", test="query"),
    dict(type="RetrievalMetric", levels=["product_id", "variation", "category"], ks=(1, 10, 20, 100, 1000)),
    dict(type="HierarchicalRetrievalMetric"),
    dict(type="ClusteringMetric", levels=["category"], within=[("product", "category")], splits=["query", "gallery"]),
    dict(type="ViolationMetric", splits=["query", "gallery"]),
]
test_cfg = dict(type="EmbeddingTestLoop")
default_hooks = dict(tsne=None, retrieval_sheet=None, recall=dict(type="RecallCurveHook", levels=["product_id"]))
