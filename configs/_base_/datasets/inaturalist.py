# iNaturalist 2017, as in paper A: 579,184 training images of 5,089 species in 13 super-categories; of the 95,986
# validation images a seeded fifth are queries, the rest the gallery. (The paper published neither list nor seed.)
_base_ = "../pipelines/views224.py"


def _dataset(**options):
    return dict(type="INaturalist", data_root="data/inaturalist", year="2017", **options)


train_dataloader = dict(
    batch_size=512,  # of all processes together in the paper: on 8 GPUs, 64 each
    num_workers=8,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=_dataset(split="train", pipeline={{_base_.train_pipeline}}),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=8,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=_dataset(split=["query", "gallery"], pipeline={{_base_.test_pipeline}}),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="RetrievalMetric", levels=["species", "supercategory"], ks=(1, 10, 100, 1000)),
    dict(type="HierarchicalRetrievalMetric"),
    dict(type="ClusteringMetric", levels=["supercategory"]),
]
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
