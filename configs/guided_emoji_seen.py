"""Guided: prototypes of the emoji whose distances follow the tree (Garnot & Landrieu, 2021).

All else, and the command, as in himulcone_emoji_seen.py.
"""

_base_ = "himulcone_emoji_seen.py"
model = dict(
    projection=None,
    normalize=False,
    loss=dict(_delete_=True, type="GuidedLoss", num_classes=1906, in_channels=256, max_classes=500),
)
train_dataloader = dict(batch_sampler=None)  # shuffled batches: a classifier unlearns classes that come in groups
