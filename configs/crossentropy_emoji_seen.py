"""Cross entropy over the 1,906 emoji; all else, and the command, as in himulcone_emoji_seen.py."""

_base_ = "himulcone_emoji_seen.py"
model = dict(
    projection=None,
    normalize=False,
    loss=dict(_delete_=True, type="LevelCrossEntropyLoss", num_classes=1906, in_channels=256),
)
train_dataloader = dict(batch_sampler=None)  # shuffled batches: a classifier unlearns classes that come in groups
