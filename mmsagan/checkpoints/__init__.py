"""Reading checkpoints safely; other projects' formats live here too."""

from mmsagan.checkpoints.loading import load_checkpoint_file, register_checkpoint_loaders

__all__ = ['load_checkpoint_file', 'register_checkpoint_loaders']
