"""Every downstream task on a frozen encoder, on seen and unseen classes of emoji64: what paper A measures.

Linear classifiers (40 epochs, as in the paper) and k-NN at every level, retrieval with recall@k for k = 1 to 1000,
MAP@R, clustering, and what the hierarchy adds. Images are embedded once and kept in the work directory.

Command   python tools/test.py configs/linear_emoji_seen.py CHECKPOINT      (of any <method>_emoji_seen.py)
Takes     three quarters of a minute as one of two at a time on two cores
"""

_base_ = "himulcone_emoji_seen.py"
model = dict(projection=None, loss=None)  # the encoder alone
train_dataloader = train_cfg = optim_wrapper = param_scheduler = auto_scale_lr = None
val_dataloader = val_evaluator = val_cfg = None
test_cfg = dict(type="EmbeddingTestLoop")


def _recall(part):
    splits = dict(query=f"{part}_test", gallery=[f"{part}_train", f"{part}_val"])
    return dict(type="RecallCurveHook", levels=["emoji"], filename=f"recall_{part}.png", **splits)


default_hooks = dict(tsne=None, retrieval_sheet=None, recall_seen=_recall("seen"), recall_unseen=_recall("unseen"))
