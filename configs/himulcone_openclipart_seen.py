"""HiMulConE on the seen classes of openclipart96, to be tested on seen and unseen ones: paper A's protocol, on a CPU.

Command   python tools/train.py configs/himulcone_openclipart_seen.py
          python tools/test.py configs/linear_openclipart_seen.py CHECKPOINT
          python tools/test.py configs/linear_openclipart_catalogue.py CHECKPOINT      (once, when all is chosen)
"""

_base_ = [
    "_base_/datasets/openclipart96_seen.py",
    "_base_/models/resnet18_half.py",
    "_base_/schedules/adamw_cpu.py",
    "_base_/default_runtime.py",
]
model = dict(loss=dict(type="HiMulConELoss"))
train_dataloader = dict(batch_sampler=dict(type="HierarchicalBatchSampler"))
train_cfg = dict(max_epochs=8, val_interval=8)
default_hooks = dict(tsne=None, retrieval_sheet=None)
