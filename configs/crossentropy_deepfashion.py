"""Cross entropy over the 8,081 products; all else, and the command, as in himulcone_deepfashion.py."""

_base_ = "himulcone_deepfashion.py"
model = dict(
    projection=None,
    normalize=False,
    loss=dict(_delete_=True, type="LevelCrossEntropyLoss", num_classes=8081, level=2),
)
train_dataloader = dict(batch_sampler=None)  # shuffled batches: a classifier unlearns classes that come in groups
