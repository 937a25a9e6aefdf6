# The paper's networks for 128x128 pixels, without attention, which an experiment places by attention_after_nth_block: the feature maps
# of 8, 16, 32 and 64 pixels leave G's blocks 1, 2, 3 and 4, and D's blocks 4, 3, 2 and 1.
_base_ = './base_sagan_128x128.py'

# As in the official code: Xavier-uniform weights, and class embeddings in G's norms that start at scale 1 and shift 0 and are not
# spectrally normalized. (An embedding of all ones has a spectral norm of sqrt(classes * channels), which would shrink every scale.)
init_cfg = dict(type='SAGAN')
model = dict(
    generator=dict(attention_after_nth_block=0, init_cfg=init_cfg, with_embedding_spectral_norm=False),
    discriminator=dict(attention_after_nth_block=0, init_cfg=init_cfg))
