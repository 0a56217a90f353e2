# WikiScenes: training on the images of one cathedral, Notre-Dame de Paris; evaluation of ten concepts on the authors'
# lists. For the medium and the large set add "medium", "medium_concept", and "large", "large_concept" to the split.
# Triplets take one view an image: a resize and a crop from the centre, without chance, so that what a frozen backbone
# makes of an image can be kept. For random views use `train_pipeline` or one of your own.
_base_ = "../pipelines/views224.py"

_learn = ["small_concept", "medium_concept", "large_concept"]  # the layer on top learns from all cathedrals


def _dataset(**options):
    return dict(type="WikiScenes", data_root="data/wikiscenes", pipeline={{_base_.test_pipeline}}, **options)


train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=_dataset(split=["small", "small_concept"]),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=_dataset(split=[*_learn, "val"]),
)
test_dataloader = dict(val_dataloader, dataset=_dataset(split=[*_learn, "val", "val_easy"]))
val_evaluator = [dict(type="AveragePrecisionMetric", levels=["concept"], train=_learn, test="val")]
test_evaluator = [
    *val_evaluator,
    dict(type="AveragePrecisionMetric", levels=["concept"], train=_learn, test="val_easy", prefix="easy"),
]
val_cfg = dict()
test_cfg = dict()
