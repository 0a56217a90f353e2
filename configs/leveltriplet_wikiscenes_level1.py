"""Triplets of the first level alone on WikiScenes: the best of paper B's ablations.

Command   python tools/train.py configs/leveltriplet_wikiscenes_level1.py --data-root path/to/wikiscenes
          python tools/test.py configs/linear_wikiscenes.py CHECKPOINT --data-root path/to/wikiscenes
"""

_base_ = "leveltriplet_wikiscenes.py"
default_hooks = dict(curriculum=dict(levels=1))
