# LeCam.
# For a leaf with this base and `model = dict(regularizers=dict(lecam=_base_.lecam))`.
lecam = dict(type='LeCam', weight=0.3, decay=0.99, start_iter=1000)
