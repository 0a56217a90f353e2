"""Every downstream task on a frozen encoder, on seen and unseen categories of ModelNet40: what paper A measures.

Linear classifiers (40 epochs, as in the paper) and k-NN, retrieval with recall@k for k = 1 to 1000, MAP@R, clustering,
and what the hierarchy adds. Images are embedded once and kept in the work directory.

Command   python tools/test.py configs/linear_modelnet40.py CHECKPOINT      (of any <method>_modelnet40.py)
"""

_base_ = "himulcone_modelnet40.py"
model = dict(projection=None, loss=None)  # the encoder alone
train_dataloader = train_cfg = optim_wrapper = param_scheduler = auto_scale_lr = None
val_dataloader = val_evaluator = val_cfg = None
test_cfg = dict(type="EmbeddingTestLoop")


def _recall(part):
    return dict(type="RecallCurveHook", levels=["model"], filename=f"recall_{part}.png", query=f"{part}_test")


default_hooks = dict(tsne=None, retrieval_sheet=None, recall_seen=_recall("seen"), recall_unseen=_recall("unseen"))
