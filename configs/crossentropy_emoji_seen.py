"""Cross entropy over the 98 subcategories: with 1,468 emoji of three images each it learns little.

All else, and the command, as in himulcone_emoji_seen.py.
Another level: --cfg-options model.loss.level=emoji
"""

_base_ = "himulcone_emoji_seen.py"
model = dict(projection=None, loss=dict(_delete_=True, type="LevelCrossEntropyLoss", level="subcategory"))
train_dataloader = dict(batch_sampler=None)  # shuffled batches: a classifier unlearns classes that come in groups
