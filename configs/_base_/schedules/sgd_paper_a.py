# Paper A, section 4.2: SGD with momentum, learning rate 0.1 divided by 10 every 40 epochs, 100 epochs, batches of 512.
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=1e-4))
param_scheduler = [dict(type="MultiStepLR", milestones=[40, 80], gamma=0.1, by_epoch=True)]
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=10)
auto_scale_lr = dict(base_batch_size=512, enable=False)
