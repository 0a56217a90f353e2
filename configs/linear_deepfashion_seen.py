"""Every downstream task on a frozen encoder, on seen and unseen categories of DeepFashion: what paper A measures.

Linear classifiers (40 epochs, as in the paper) and k-NN, retrieval with recall@k for k = 1 to 1000, MAP@R, clustering,
and what the hierarchy adds. Images are embedded once and kept in the work directory.

Command   python tools/test.py configs/linear_deepfashion_seen.py CHECKPOINT      (of any <method>_deepfashion_seen.py)
"""

_base_ = "himulcone_deepfashion_seen.py"
model = dict(projection=None, loss=None)  # the encoder alone
train_dataloader = train_cfg = optim_wrapper = param_scheduler = auto_scale_lr = None
val_dataloader = val_evaluator = val_cfg = None
test_cfg = dict(type="EmbeddingTestLoop")


def _recall(part):
    return dict(
        type="RecallCurveHook",
        levels=["product"],
        filename=f"recall_{part}.png",
        query=f"{part}_query",
        gallery=f"{part}_gallery",
    )


default_hooks = dict(tsne=None, retrieval_sheet=None, recall_seen=_recall("seen"), recall_unseen=_recall("unseen"))
