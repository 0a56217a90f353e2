"""Batch-hard triplets of the products (Hermans et al., 2017).

All else, and the command, as in himulcone_deepfashion_seen.py.
"""

_base_ = "himulcone_deepfashion_seen.py"
model = dict(projection=None, loss=dict(_delete_=True, type="TripletLoss", level=2))
