# Top-k updates of G, down to half of the fake images. In the paper, decay_iters is an epoch.
# For a leaf with this base and `model = dict(regularizers=dict(topk=_base_.topk))`.
topk = dict(type='TopK', fraction=0.5, decay=0.99, decay_iters=1000)
