"""The recommended recipe on the seen classes of openclipart96: what an index makes of classes that it does not know.

All but the data, the rate and the pretrained share is finetune_emoji.py. Of the 49 folders of the second level 13 are
unseen in training; nobody trains on the folder computer.

Command   python tools/train.py configs/finetune_openclipart_known.py
          python tools/benchmarks/unknown.py openclipart      (calibration, and unknown classes)
"""

_base_ = [
    "_base_/datasets/openclipart96_seen.py",
    "_base_/pipelines/emoji96.py",
    "_base_/models/finetuned_lite0.py",
    "_base_/schedules/finetune.py",
    "_base_/default_runtime.py",
]
# few images, and the classes of interest are not among them: docs/finetuning.md#classes-that-training-does-not-see
model = dict(backbone=dict(image_size=96), pretrained_share=0.5)
train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline96}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline96}}))
test_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline96}}))
optim_wrapper = dict(optimizer=dict(lr=1e-3))  # few images: docs/finetuning.md#rates-and-warm-up
default_hooks = dict(
    frozen_features=dict(type="FrozenFeaturesHook", num_views=4, dtype="float16", evaluation=True),
    tsne=None,
    retrieval_sheet=None,
)
