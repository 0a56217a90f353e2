"""Batch-hard triplets of the products, with a soft margin (Hermans et al., 2017).

All else, and the command, as in himulcone_deepfashion.py.
"""

_base_ = "himulcone_deepfashion.py"
model = dict(
    projection=None,
    normalize=False,
    loss=dict(_delete_=True, type="TripletLoss", margin="soft", distance="euclidean", level=2),
)
