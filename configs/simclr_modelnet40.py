"""SimCLR, which needs no labels, in shuffled batches; all else, and the command, as in himulcone_modelnet40.py."""

_base_ = "himulcone_modelnet40.py"
model = dict(loss=dict(_delete_=True, type="NTXentLoss"))
train_dataloader = dict(batch_sampler=None)
