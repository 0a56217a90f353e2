"""Every downstream task on a frozen encoder, on iNaturalist 2017.

Linear classifiers (40 epochs, as in the paper) and k-NN, retrieval with recall@k for k = 1 to 1000, MAP@R, clustering,
and what the hierarchy adds. Images are embedded once and kept in the work directory.

Command   python tools/test.py configs/linear_inaturalist.py CHECKPOINT      (of any <method>_inaturalist.py)
"""

_base_ = "himulcone_inaturalist.py"
model = dict(projection=None, loss=None)  # the encoder alone
train_dataloader = train_cfg = optim_wrapper = param_scheduler = auto_scale_lr = None
val_dataloader = val_evaluator = val_cfg = None
test_dataloader = dict(dataset=dict(split=["train", "query", "gallery"]))
test_evaluator = [
    dict(type="LinearProbeMetric", levels=["species", "supercategory"], train="train", test=["query", "gallery"]),
    dict(type="KNNMetric", levels=["species", "supercategory"], train="train", test=["query", "gallery"]),
    dict(type="RetrievalMetric", levels=["species", "supercategory"], ks=(1, 10, 100, 1000)),
    dict(type="HierarchicalRetrievalMetric"),
    dict(type="ClusteringMetric", levels=["supercategory"], splits=["query", "gallery"]),
    dict(type="ViolationMetric", splits=["query", "gallery"]),
]
test_cfg = dict(type="EmbeddingTestLoop")
default_hooks = dict(
    tsne=None, retrieval_sheet=None, recall=dict(type="RecallCurveHook", levels=["species", "supercategory"])
)
