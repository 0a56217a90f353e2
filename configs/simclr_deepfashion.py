"""SimCLR, which needs no labels, in shuffled batches; all else, and the command, as in himulcone_deepfashion.py."""

_base_ = "himulcone_deepfashion.py"
model = dict(loss=dict(_delete_=True, type="NTXentLoss"))
train_dataloader = dict(batch_sampler=None)
