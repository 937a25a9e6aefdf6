"""Reading and writing checkpoints without executing them, and converting those of other projects."""

from mmsagan.checkpoints.architecture import check_compatibility
from mmsagan.checkpoints.convert import register_checkpoint_loaders
from mmsagan.checkpoints.io import check_integrity, find_latest_checkpoint, load_checkpoint_file, save_checkpoint_file
