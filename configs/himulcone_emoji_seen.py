"""HiMulConE on the seen classes of emoji64, to be tested on seen and on unseen ones: the protocol of paper A, on a CPU.

Command   python tools/train.py configs/himulcone_emoji_seen.py
          python tools/test.py configs/linear_emoji_seen.py work_dirs/himulcone_emoji_seen/epoch_8.pth
          python tools/benchmarks/table.py emoji_seen      (every method with three seeds)
Takes     four minutes as one of two runs at a time on two cores; 48 px, batches of 64 in two views, eight epochs
Result    measured: the tables of docs/results.md
"""

_base_ = [
    "_base_/datasets/emoji64_seen.py",
    "_base_/models/resnet18_half.py",
    "_base_/schedules/adamw_cpu.py",
    "_base_/default_runtime.py",
]
model = dict(loss=dict(type="HiMulConELoss"))
train_dataloader = dict(batch_sampler=dict(type="HierarchicalBatchSampler"))
train_cfg = dict(max_epochs=8, val_interval=8)
default_hooks = dict(tsne=None, retrieval_sheet=None)
