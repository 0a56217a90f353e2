"""The recommended recipe on a catalogue that nobody has chosen settings by: 1,639 drawings in 28 folders.

It is the folder computer of openclipart96 with all below it. All but the data, and what goes by the number of images,
is finetune_emoji.py. An image's product is its folder, however deep that is. Folders are known in training; validation
and test images are new: 983 images are trained on, and 328 test images are searched for among the other 1,311.

Command   python tools/train.py configs/finetune_openclipart_catalogue.py
          python tools/test.py configs/finetune_openclipart_catalogue.py CHECKPOINT     (once, when all is chosen)
          python tools/test.py configs/finetune_openclipart_catalogue.py                (the encoder without training)
"""

_base_ = "finetune_emoji.py"


def _loader(pipeline, *splits):
    return dict(
        dataset=dict(
            _delete_=True,
            type="OpenClipart96",
            data_root="data/openclipart96",
            split_file="{{fileDirname}}/_base_/splits/openclipart96_seen_unseen.json",
            split=[f"catalogue_{split}" for split in splits],
            pipeline=pipeline,
        )
    )


def _search(query, *gallery):
    sets = dict(query=f"catalogue_{query}", gallery=[f"catalogue_{split}" for split in gallery])
    return [
        dict(type="RetrievalMetric", levels=["folder", "level2"], ks=(1, 10), **sets),
        dict(type="HierarchicalRetrievalMetric", **sets),
    ]


# rate, epochs and views as `hierpretrain init` takes them for 983 images
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_epochs=20, val_interval=20)
default_hooks = dict(frozen_features=dict(num_views=16))
train_dataloader = _loader({{_base_.train_pipeline96}}, "train")
val_dataloader = _loader({{_base_.test_pipeline96}}, "train", "val")
test_dataloader = _loader({{_base_.test_pipeline96}}, "train", "val", "test")
val_evaluator = _search("val", "train")
test_evaluator = _search("test", "train", "val")
