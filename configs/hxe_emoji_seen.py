"""Hierarchical cross entropy over the tree (Bertinetto et al., 2020).

All else, and the command, as in himulcone_emoji_seen.py.
"""

_base_ = "himulcone_emoji_seen.py"
model = dict(projection=None, loss=dict(_delete_=True, type="HXELoss"))
train_dataloader = dict(batch_sampler=None)  # shuffled batches: a classifier unlearns classes that come in groups
