"""Ten concepts by one linear layer on a frozen encoder: the evaluation of paper B, with a map of the embedding.

Adam at 1e-3, batches of 64, four epochs; AP of each concept, mAP over the concepts, mAP* over the images, and the mean
precision, on the authors' validation list and on the easy one.

Command   python tools/test.py configs/linear_wikiscenes.py CHECKPOINT --data-root path/to/wikiscenes
          python tools/test.py configs/linear_wikiscenes.py --data-root path/to/wikiscenes      (ImageNet weights alone)
"""

_base_ = "leveltriplet_wikiscenes.py"
model = dict(loss=None)  # the encoder alone
train_dataloader = train_cfg = optim_wrapper = None
val_dataloader = val_evaluator = val_cfg = None
test_cfg = dict(type="EmbeddingTestLoop")
default_hooks = dict(
    tsne=dict(_delete_=True, type="TSNEHook", level=1, filename="tsne_level1.png"),
    tsne_concept=dict(type="TSNEHook", level="concept", filename="tsne_concept.png"),
    retrieval_sheet=None,
)
