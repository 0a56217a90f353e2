"""Every downstream task of linear_openclipart.py, on a pretrained encoder as it is: nothing is trained.

Command   python tools/test.py configs/linear_openclipart_lite0_untrained.py
"""

_base_ = "linear_openclipart_lite0.py"
model = dict(projection=None, embedding="backbone")
