"""Writing checkpoint files, whole or not at all."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch

from mmsagan.utils.files import write_output


def save_checkpoint_file(checkpoint: Mapping, path: str | Path) -> None:
    """Writes a checkpoint; the file's ending decides on the format.

    Args:
        checkpoint: Its content. A ``.safetensors`` file holds only ``state_dict``, and ``meta`` as JSON.
        path: The file.

    Raises:
        ConfigError: The file cannot be written.
    """
    write_output(path, checkpoint_bytes(checkpoint, format_by_name(path)))


def format_by_name(path: str | Path) -> str:
    """The format that a file's ending asks for, ``'pth'`` or ``'safetensors'``."""
    return 'safetensors' if Path(path).suffix == '.safetensors' else 'pth'


def checkpoint_bytes(checkpoint: Mapping, format: str) -> bytes:
    """A checkpoint file's content in the format ``'pth'`` or ``'safetensors'``."""
    if format == 'safetensors':
        # Each in a storage of its own, as the format wants it.
        tensors = {
            key: tensor.detach().clone(memory_format=torch.contiguous_format)
            for key, tensor in checkpoint['state_dict'].items()
        }
        return safetensors.torch.save(tensors, {'format': 'pt', 'meta': json.dumps(checkpoint.get('meta', {}))})
    buffer = io.BytesIO()
    torch.save(dict(checkpoint), buffer)
    return buffer.getvalue()
