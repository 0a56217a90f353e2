"""SimCLR, which needs no labels, in shuffled batches; all else, and the command, as in himulcone_imagenet.py."""

_base_ = "himulcone_imagenet.py"
model = dict(loss=dict(_delete_=True, type="NTXentLoss"))
train_dataloader = dict(batch_sampler=None)
