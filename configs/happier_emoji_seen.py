"""HAPPIER: a surrogate of hierarchical average precision (Ramzi et al., 2022).

All else, and the command, as in himulcone_emoji_seen.py.
"""

_base_ = "himulcone_emoji_seen.py"
model = dict(projection=None, loss=dict(_delete_=True, type="HAPPIERLoss"))
