"""Cross entropy over the 98 subcategories: with 1,906 emoji of three images each it learns little.

All else, and the command, as in himulcone_emoji_seen.py.
Another level: --cfg-options model.loss.level=3 model.loss.num_classes=1906
"""

_base_ = "himulcone_emoji_seen.py"
model = dict(
    projection=None,
    normalize=False,
    loss=dict(_delete_=True, type="LevelCrossEntropyLoss", level=2, num_classes=98),
)
train_dataloader = dict(batch_sampler=None)  # shuffled batches: a classifier unlearns classes that come in groups
