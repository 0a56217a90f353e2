"""Cross entropy over the 5,089 species; all else, and the command, as in himulcone_inaturalist.py."""

_base_ = "himulcone_inaturalist.py"
model = dict(
    projection=None,
    normalize=False,
    loss=dict(_delete_=True, type="LevelCrossEntropyLoss", num_classes=5089),
)
train_dataloader = dict(batch_sampler=None)  # shuffled batches: a classifier unlearns classes that come in groups
