"""Batch-hard triplets of the categories, with a soft margin (Hermans et al., 2017).

All else, and the command, as in himulcone_modelnet40.py.
"""

_base_ = "himulcone_modelnet40.py"
model = dict(
    projection=None,
    normalize=False,
    loss=dict(_delete_=True, type="TripletLoss", margin="soft", distance="euclidean", level=1),
)
