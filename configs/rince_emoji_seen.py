"""RINCE: positives ranked by how much of the tree they share with the anchor (Hoffmann et al., 2022).

All else, and the command, as in himulcone_emoji_seen.py.
"""

_base_ = "himulcone_emoji_seen.py"
model = dict(loss=dict(_delete_=True, type="RINCELoss"))
