"""Cross entropy over the 40 categories; all else, and the command, as in himulcone_modelnet40.py."""

_base_ = "himulcone_modelnet40.py"
model = dict(projection=None, loss=dict(_delete_=True, type="LevelCrossEntropyLoss", level="category"))
train_dataloader = dict(batch_sampler=None)  # shuffled batches: a classifier unlearns classes that come in groups
