"""Every downstream task on a frozen encoder, on seen and unseen folders of openclipart96: what paper A measures.

Linear classifiers and k-NN, retrieval, clustering, and what the hierarchy adds, at the first two levels: images hang on
folders of any depth, and all of these have a folder of the second level. Images that hang in several nodes of a level
have no class there and are left out.

Command   python tools/test.py configs/linear_openclipart_seen.py CHECKPOINT      (of any <method>_openclipart_seen.py)
          python tools/test.py configs/linear_openclipart_seen.py                 (the encoder without training)
"""

_base_ = "himulcone_openclipart_seen.py"
model = dict(projection=None, loss=None)  # the encoder alone
train_dataloader = train_cfg = optim_wrapper = param_scheduler = auto_scale_lr = None
val_dataloader = val_evaluator = val_cfg = None
test_cfg = dict(type="EmbeddingTestLoop")


def _recall(part):
    splits = dict(query=f"{part}_test", gallery=[f"{part}_train", f"{part}_val"])
    return dict(type="RecallCurveHook", levels=["level2"], filename=f"recall_{part}.png", **splits)


default_hooks = dict(tsne=None, retrieval_sheet=None, recall_seen=_recall("seen"), recall_unseen=_recall("unseen"))
