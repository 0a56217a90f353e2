"""Cross entropy over the 1,000 classes; all else, and the command, as in himulcone_imagenet.py."""

_base_ = "himulcone_imagenet.py"
model = dict(projection=None, loss=dict(_delete_=True, type="LevelCrossEntropyLoss"))
train_dataloader = dict(batch_sampler=None)  # shuffled batches: a classifier unlearns classes that come in groups
