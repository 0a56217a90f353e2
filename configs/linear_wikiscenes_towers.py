"""The evaluation of paper B on its external baseline, the encoder of Towers of Babel; nothing is trained but the layer.

Put the authors' file model_enc_e030Xs-0.825.pth into data/wikiscenes, or say where it is.

Command   python tools/test.py configs/linear_wikiscenes_towers.py --data-root path/to/wikiscenes
Vary      model.backbone.init_cfg.checkpoint=path/to/the/file
"""

_base_ = [
    "_base_/datasets/wikiscenes.py",
    "_base_/models/towers_resnet50.py",
    "_base_/default_runtime.py",
]
train_dataloader = None
val_dataloader = val_evaluator = val_cfg = None
test_cfg = dict(type="EmbeddingTestLoop")
default_hooks = dict(
    tsne=dict(level=1, filename="tsne_level1.png"),
    tsne_concept=dict(type="TSNEHook", level="concept", filename="tsne_concept.png"),
    retrieval_sheet=None,
)
