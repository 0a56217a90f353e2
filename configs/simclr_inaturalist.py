"""SimCLR, which needs no labels, in shuffled batches; all else, and the command, as in himulcone_inaturalist.py."""

_base_ = "himulcone_inaturalist.py"
model = dict(loss=dict(_delete_=True, type="NTXentLoss"))
train_dataloader = dict(batch_sampler=None)
