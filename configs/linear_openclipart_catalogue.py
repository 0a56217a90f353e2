"""Every downstream task on a frozen encoder, on a catalogue that nobody has chosen settings by: folders held out whole.

Linear classifiers and k-NN, retrieval, clustering, and what the hierarchy adds, at the second and third level, since
the first is one folder. An image on a folder has no class below it and is left out there.

Command   python tools/test.py configs/linear_openclipart_catalogue.py CHECKPOINT (of any <method>_openclipart_seen.py)
          python tools/test.py configs/linear_openclipart_catalogue.py            (the encoder without training)
"""

_base_ = [
    "_base_/datasets/openclipart96_catalogue.py",
    "_base_/models/resnet18_half.py",
    "_base_/default_runtime.py",
]
model = dict(projection=None, loss=None)  # the encoder alone
test_cfg = dict(type="EmbeddingTestLoop")
default_hooks = dict(
    tsne=None,
    retrieval_sheet=None,
    recall=dict(
        type="RecallCurveHook",
        levels=["level2"],
        query="catalogue_test",
        gallery=["catalogue_train", "catalogue_val"],
    ),
)
