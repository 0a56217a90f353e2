# Paper B, section 4: a learning rate of 1e-4. An epoch shows as many images as there are; 16 epochs, so that each of up
# to eight levels has two. The optimizer and the length are ours: the paper does not say them.
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=1e-4))
train_cfg = dict(by_epoch=True, max_epochs=16, val_interval=4)
