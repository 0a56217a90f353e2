"""SimCLR, which needs no labels, in shuffled batches.

All else, and the command, as in himulcone_deepfashion_seen.py.
"""

_base_ = "himulcone_deepfashion_seen.py"
model = dict(loss=dict(_delete_=True, type="NTXentLoss"))
train_dataloader = dict(batch_sampler=None)
