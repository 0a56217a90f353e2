"""Proxy Anchor at every level: a proxy of every node of the tree (Kim et al., 2020, of one level).

All else, and the command, as in himulcone_emoji_seen.py.
"""

_base_ = "himulcone_emoji_seen.py"
model = dict(projection=None, loss=dict(_delete_=True, type="LevelProxyLoss"))
