"""Level-by-level triplets on all cathedrals of WikiScenes: the large training set of paper B.

For the medium one, train_dataloader.dataset.split=small,small_concept,medium,medium_concept. The convolutions' features
take 98 KiB an image on disk, so some 6 GB here; default_hooks.frozen_features.dtype=float16 halves it.

Command   python tools/train.py configs/leveltriplet_wikiscenes_large.py --data-root path/to/wikiscenes
          python tools/test.py configs/linear_wikiscenes.py CHECKPOINT --data-root path/to/wikiscenes
"""

_base_ = "leveltriplet_wikiscenes.py"
train_dataloader = dict(
    dataset=dict(split=["small", "small_concept", "medium", "medium_concept", "large", "large_concept"]),
)
