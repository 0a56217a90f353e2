# What every run has: MMEngine's own hooks with atomic checkpoints, exact resume, metrics as JSON and two pictures.
# A hook goes by its key: default_hooks.tsne.level=2 changes one, default_hooks.tsne=None leaves it out.
default_scope = "hierpretrain"

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=10),
    param_scheduler=dict(type="ParamSchedulerHook"),
    # at least 2 are kept: MMEngine removes an old one before it writes the new one
    checkpoint=dict(
        type="CheckpointHook", interval=1, max_keep_ckpts=2, backend_args=dict(backend="AtomicLocalBackend")
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    violations=dict(type="BatchViolationsHook", interval=10),
    exact_resume=dict(type="ExactResumeHook"),
    # on several processes: the statistics of normalisation layers are averaged before evaluation
    sync_buffers=dict(type="SyncBuffersHook"),
    patience=dict(type="TrainingPatienceHook", seconds=600),  # of processes for one that hangs, outside of evaluation
    taxonomy=dict(type="TaxonomyHook"),
    metrics_file=dict(type="MetricsFileHook"),
    skipped_files=dict(type="SkippedFilesHook"),  # skipped.json, of data sets with on_error="skip"
    tsne=dict(type="TSNEHook", level=1),
    retrieval_sheet=dict(type="RetrievalSheetHook", level=-1),
)
custom_hooks = []  # your own; those above go on beside them

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl", timeout=7200),  # seconds: rank 0 makes pictures while the others wait
)
log_processor = dict(type="ShortLogProcessor")
visualizer = dict(type="UniversalVisualizer", vis_backends=[dict(type="LocalVisBackend")])
log_level = "INFO"
load_from = None
resume = False
randomness = dict(seed=0, deterministic=False)
