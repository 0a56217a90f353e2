"""Cross entropy over the 5,089 species; all else, and the command, as in himulcone_inaturalist.py."""

_base_ = "himulcone_inaturalist.py"
model = dict(projection=None, loss=dict(_delete_=True, type="LevelCrossEntropyLoss"))
train_dataloader = dict(batch_sampler=None)  # shuffled batches: a classifier unlearns classes that come in groups
