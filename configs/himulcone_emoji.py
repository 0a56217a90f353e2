"""HiMulConE (Use All The Labels, CVPR 2022, eq. 7) from scratch on emoji64, the data set in the repository, on a CPU.

Command   python tools/train.py configs/himulcone_emoji.py
Takes     three and a half minutes on two cores; images at 48 px, batches of 64 in two views, five epochs
Result    measured, three seeds, emoji unseen in training, percent: MAP@R 31.0 ± 0.9, recall@1 56.8 ± 2.4,
          category recall@1 80.3 ± 1.4, category NMI 24.2 ± 1.0
          (python tools/benchmarks/table.py emoji --rows contrastive)
Vary      model.loss.constraint, .level_weights, .positives; another backbone: model.backbone; a longer
          run: train_cfg.max_epochs
"""

_base_ = [
    "_base_/datasets/emoji64.py",
    "_base_/models/resnet18_half.py",
    "_base_/schedules/adamw_cpu.py",
    "_base_/default_runtime.py",
]
model = dict(loss=dict(type="HiMulConELoss"))
train_dataloader = dict(batch_sampler=dict(type="HierarchicalBatchSampler"))
