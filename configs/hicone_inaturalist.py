"""HiConE in place of HiMulConE; all else, and the command, as in himulcone_inaturalist.py."""

_base_ = "himulcone_inaturalist.py"
model = dict(loss=dict(_delete_=True, type="HiConELoss"))
