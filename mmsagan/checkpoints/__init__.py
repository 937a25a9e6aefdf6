"""Reading and writing checkpoints safely, and other projects' formats, each one table of key rules."""

from mmsagan.checkpoints.loading import load_checkpoint_file, register_checkpoint_loaders
from mmsagan.checkpoints.saving import save_checkpoint_file

__all__ = ['load_checkpoint_file', 'register_checkpoint_loaders', 'save_checkpoint_file']
