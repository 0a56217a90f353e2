"""Batch-hard triplets of the species (Hermans et al., 2017).

All else, and the command, as in himulcone_inaturalist.py.
"""

_base_ = "himulcone_inaturalist.py"
model = dict(projection=None, loss=dict(_delete_=True, type="TripletLoss"))
