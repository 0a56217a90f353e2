"""The evaluation of paper B on a ResNet-50 with its trained head.

Without a checkpoint, --cfg-options model.projection=None model.embedding=backbone measures the ImageNet weights alone.

Command   python tools/test.py configs/linear_wikiscenes_resnet50.py CHECKPOINT --data-root path/to/wikiscenes
"""

_base_ = "leveltriplet_wikiscenes_resnet50.py"
model = dict(loss=None)  # the encoder and its head
train_dataloader = train_cfg = optim_wrapper = None
val_dataloader = val_evaluator = val_cfg = None
test_cfg = dict(type="EmbeddingTestLoop")
default_hooks = dict(
    tsne=dict(_delete_=True, type="TSNEHook", level=1, filename="tsne_level1.png"),
    tsne_concept=dict(type="TSNEHook", level="concept", filename="tsne_concept.png"),
    retrieval_sheet=None,
)
