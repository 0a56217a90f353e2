"""Batch-hard triplets of the classes (Hermans et al., 2017); all else, and the command, as in himulcone_imagenet.py."""

_base_ = "himulcone_imagenet.py"
model = dict(projection=None, loss=dict(_delete_=True, type="TripletLoss"))
