"""SimCLR, which needs no labels, in shuffled batches; all else, and the command, as in himulcone_emoji.py."""

_base_ = "himulcone_emoji.py"
model = dict(loss=dict(_delete_=True, type="NTXentLoss"))
train_dataloader = dict(batch_sampler=None)
