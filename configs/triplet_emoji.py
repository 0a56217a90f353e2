"""Batch-hard triplets of the emoji, with a soft margin (Hermans et al., 2017).

All else, and the command, as in himulcone_emoji.py.
"""

_base_ = "himulcone_emoji.py"
model = dict(
    projection=None,
    normalize=False,
    loss=dict(_delete_=True, type="TripletLoss", margin="soft", distance="euclidean"),
)
