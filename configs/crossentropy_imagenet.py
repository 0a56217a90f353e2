"""Cross entropy over the 1,000 classes; all else, and the command, as in himulcone_imagenet.py."""

_base_ = "himulcone_imagenet.py"
model = dict(
    projection=None,
    normalize=False,
    loss=dict(_delete_=True, type="LevelCrossEntropyLoss", num_classes=1000),
)
train_dataloader = dict(batch_sampler=None)  # shuffled batches: a classifier unlearns classes that come in groups
