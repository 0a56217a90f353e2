"""HiMulCon and the mean of the cross entropies of all levels, on the encoder's output itself.

All else, and the command, as in himulcone_emoji_seen.py.
Vary      model.loss.weight, .heads, .balance, .contrastive.type; model.loss.projection.type=ProjectionHead
"""

_base_ = "himulcone_emoji_seen.py"
model = dict(projection=None, loss=dict(_delete_=True, type="HierarchicalJointLoss"))
train_dataloader = dict(batch_sampler=None)  # shuffled batches: a classifier unlearns classes that come in groups
