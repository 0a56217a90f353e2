"""Batch-hard triplets of the emoji (Hermans et al., 2017); all else, and the command, as in himulcone_emoji.py."""

_base_ = "himulcone_emoji.py"
model = dict(projection=None, loss=dict(_delete_=True, type="TripletLoss"))
