"""Writing checkpoint files, whole or not at all."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch

from mmsagan.utils.files import write_atomically


def save_checkpoint_file(checkpoint: Mapping, path: str | Path) -> None:
    """Writes a checkpoint; the file's ending decides on the format.

    Args:
        checkpoint: Its content. A ``.safetensors`` file holds only ``state_dict``, and ``meta`` as JSON.
        path: The file.
    """
    write_atomically(path, checkpoint_bytes(checkpoint, 'safetensors' if Path(path).suffix == '.safetensors' else 'pth'))


def checkpoint_bytes(checkpoint: Mapping, format: str) -> bytes:
    """A checkpoint file's content in the format ``'pth'`` or ``'safetensors'``."""
    if format == 'safetensors':
        tensors = {key: tensor.contiguous() for key, tensor in checkpoint['state_dict'].items()}
        return safetensors.torch.save(tensors, {'format': 'pt', 'meta': json.dumps(checkpoint.get('meta', {}))})
    buffer = io.BytesIO()
    torch.save(dict(checkpoint), buffer)
    return buffer.getvalue()
