r"""The recommended recipe on the catalogue of finetune_openclipart_catalogue.py, with a third of its folders unseen.

Of the 29 folders of the second level, 10 are unseen in training, with all that is below them; 484 images of the other
19 are trained on. Test images of either part are searched for among the other images of the part. Images on folders of
the first level are unused. The split is made by

    python tools/make_split.py configs/himulcone_openclipart.py --level level2 --unseen-share 0.34 --seed 0 \
        --hold-out buttons computer containers decorations education electronics logos science shapes \
        signs_and_symbols --hold-out-tag elsewhere --out configs/_base_/splits/openclipart96_catalogue_unseen.json

Command   python tools/train.py configs/finetune_openclipart_catalogue_unseen.py
          python tools/test.py configs/finetune_openclipart_catalogue_unseen.py CHECKPOINT  (once, when all is chosen)
          python tools/test.py configs/finetune_openclipart_catalogue_unseen.py             (without training)
"""

_base_ = "finetune_openclipart_catalogue.py"


def _dataset(*splits):
    return dict(split_file="{{fileDirname}}/_base_/splits/openclipart96_catalogue_unseen.json", split=list(splits))


def _search(part, query, *gallery):
    sets = dict(query=f"{part}_{query}", gallery=[f"{part}_{split}" for split in gallery], prefix=part)
    return [
        dict(type="RetrievalMetric", levels=["folder", "level2", "level1"], ks=(1, 10), **sets),
        dict(type="HierarchicalRetrievalMetric", **sets),
    ]


train_dataloader = dict(dataset=_dataset("seen_train"))
val_dataloader = dict(dataset=_dataset("seen_train", "seen_val"))
test_dataloader = dict(
    dataset=_dataset(*[f"{part}_{split}" for part in ("seen", "unseen") for split in ("train", "val", "test")])
)
val_evaluator = _search("seen", "val", "train")
test_evaluator = [*_search("seen", "test", "train", "val"), *_search("unseen", "test", "train", "val")]
