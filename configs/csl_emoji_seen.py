"""Cross-Scale Learning: proxies of the 1,906 emoji with a margin of each level (Sun et al., 2021).

All else, and the command, as in himulcone_emoji_seen.py.
"""

_base_ = "himulcone_emoji_seen.py"
model = dict(projection=None, loss=dict(_delete_=True, type="CSLLoss"))
