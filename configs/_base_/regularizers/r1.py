# R1, computed in one of 16 updates. Let gamma grow with the resolution.
# For a leaf with this base and `model = dict(regularizers=dict(r1=_base_.r1))`.
r1 = dict(type='R1', gamma=10.0, interval=16)
