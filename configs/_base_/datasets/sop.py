# Stanford Online Products: 59,551 training images; 60,502 of other products, each a query among the others.
_base_ = "../pipelines/views224.py"


def _dataset(**options):
    return dict(type="StanfordOnlineProducts", data_root="data/Stanford_Online_Products", **options)


train_dataloader = dict(
    batch_size=128,
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=_dataset(split="train", pipeline={{_base_.train_pipeline}}),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=_dataset(split="test", pipeline={{_base_.test_pipeline}}),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="RetrievalMetric", levels=["product", "super"], ks=(1, 10, 100, 1000)),
    dict(type="HierarchicalRetrievalMetric"),
]
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
