"""Work directories as runs leave them."""

import json

from mmengine.config import Config

CONFIG = dict(
    model=dict(type="Net", layers=[dict(width=4, kernel=(3, 3))], loss=dict(type="SupConLoss", temperature=0.1)),
    train_cfg=dict(by_epoch=True, max_epochs=2),
    optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.5)),
    default_hooks=dict(frozen_features=dict(folder="{work_dir}/features"), sheet=None),
    train_pipeline=[dict(type="LoadRGB")],
    _size=32,
)


def write_run(folder, seed=0, metrics=None, lines=(), *, start="20260101_000000", config="mine", **options):
    """Writes a work directory, whose config MMEngine itself writes; options are dotted keys with ``__`` for dots."""
    made = Config({**CONFIG, "work_dir": str(folder), "randomness": dict(seed=seed)})
    made.default_hooks.frozen_features.folder = f"{folder}/features"
    made.merge_from_dict({key.replace("__", "."): value for key, value in options.items()})
    data = folder / start / "vis_data"
    data.mkdir(parents=True)
    made.dump(data / "config.py")
    made.dump(folder / f"{config}.py")
    if lines:
        (data / "scalars.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if metrics is not None:
        (folder / "metrics.json").write_text(json.dumps({"epoch": 2, "iter": 8, "metrics": metrics}))
    return folder
