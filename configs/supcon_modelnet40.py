"""SupCon over the categories; all else, and the command, as in himulcone_modelnet40.py."""

_base_ = "himulcone_modelnet40.py"
model = dict(loss=dict(_delete_=True, type="SupConLoss", level=1))
