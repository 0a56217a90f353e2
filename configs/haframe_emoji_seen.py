"""HAFrame: fixed directions of the 98 subcategories whose cosines follow the tree (Liang & Davis, 2023).

All else, and the command, as in himulcone_emoji_seen.py.
Another level: --cfg-options model.loss.level=3
"""

_base_ = "himulcone_emoji_seen.py"
model = dict(projection=None, loss=dict(_delete_=True, type="HAFrameLoss", level=2))
train_dataloader = dict(batch_sampler=None)  # shuffled batches: a classifier unlearns classes that come in groups
