"""Samples in files: a grid, a folder of PNGs, or one .npz file, made by any number of processes."""

import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import barrier, is_main_process

from mmsagan.apis.sample_set import SampleSet
from mmsagan.datasets.decoding import IMAGE_SUFFIXES
from mmsagan.errors import ConfigError
from mmsagan.utils.distributed import from_main_process
from mmsagan.utils.files import check_writable, write_atomically
from mmsagan.visualization import image_grid
from mmsagan.visualization.figures import encode_png

NPZ_NAME = 'samples.npz'
# Encoding a PNG takes longer than making a small image does on a GPU.
_WRITERS = 4


def check_output(out: Path, npz: bool) -> None:
    """Finds out whether samples can be written to ``out`` before they are made.

    Args:
        out: A .png file for a grid; else a folder.
        npz: Whether the folder gets one .npz file and not single PNGs.

    Raises:
        ConfigError: They cannot, or their folder has other files, which would be taken for samples.
    """
    if is_grid(out):
        if npz:
            raise ConfigError(f'--npz writes {NPZ_NAME} into a folder, and {out} is the name of a picture')
        check_writable(out)
    elif out.is_file() or (out.suffix.lower() in (*IMAGE_SUFFIXES, '.npz') and not out.is_dir()):
        raise ConfigError(f'{out} must be a folder, with --npz for {NPZ_NAME} in it, or a .png file for a grid')
    elif npz:
        check_writable(out / NPZ_NAME)
    else:
        check_writable(out / 'first.png')
        others = sorted(out.iterdir()) if out.is_dir() else ()
        other = next((path.name for path in others if not path.name.startswith('.')), None)
        if other is not None:
            raise ConfigError(
                f'{out} is not empty ({other}), and would mix with the samples; remove it or choose another folder'
            )


def is_grid(out: Path) -> bool:
    """Whether ``out`` asks for a grid."""
    return out.suffix.lower() == '.png' and not out.is_dir()


def write_samples(samples: SampleSet, out: Path, npz: bool = False) -> str:
    """Makes samples and writes them; every process a share, which it makes and writes batch by batch.

    Args:
        samples: The samples.
        out: Where to, see :func:`check_output`.
        npz: Whether the folder gets one .npz file: ``arr_0`` images (N, H, W, 3) uint8, ``arr_1`` classes (N,), without classes
            ``arr_0`` alone. This is the layout that ADM's evaluation reads.

    Returns:
        What was written, in one line.

    Raises:
        MMSAGANError: Something that the user can mend.
    """
    barrier()  # no process writes before all have seen what was there
    try:
        if is_grid(out):
            return _write_grid(samples, out)
        if npz:
            return _write_npz(samples, out / NPZ_NAME)
        return _write_pngs(samples, out)
    except OSError as error:
        raise ConfigError(f'{out} cannot be written: {error}') from error


def _write_pngs(samples: SampleSet, folder: Path) -> str:
    pending: list[Future] = []
    with ThreadPoolExecutor(_WRITERS) as writers, closing(samples.batches()) as batches:
        for numbers, images in batches:
            # The batch before this one, so that no more than two are in memory.
            _wait_for(pending)
            pending = [
                writers.submit(_write_png, _png_path(samples, folder, number), image)
                for number, image in zip(numbers, images.permute(0, 2, 3, 1).numpy())
            ]
        _wait_for(pending)
    barrier()
    place = folder if samples.labels is None else f'{folder}, one folder a class'
    return f'{samples.num_samples} samples written to {place}'


def _png_path(samples: SampleSet, folder: Path, number: int) -> Path:
    """``<class>/<number>.png``, padded with zeros so that alphabetical order is that of the numbers."""
    name = f'{number:0{len(str(samples.num_samples - 1))}d}.png'
    if samples.labels is None:
        return folder / name
    return folder / f'{int(samples.labels[number]):0{len(str(samples.model.num_classes - 1))}d}' / name


def _write_png(path: Path, image: np.ndarray) -> None:
    write_atomically(path, encode_png(image))


def _wait_for(futures: list[Future]) -> None:
    for future in futures:
        future.result()


def _write_grid(samples: SampleSet, path: Path) -> str:
    with _hidden_folder(path.parent) as folder:
        _collect(samples, folder / 'images.npy')
        if is_main_process():
            images = np.load(folder / 'images.npy', mmap_mode='c')  # private changes allowed, which torch.from_numpy asks for
            grid = image_grid(torch.from_numpy(images).permute(0, 3, 1, 2), samples.columns)
            _write_png(path, grid)
    return f'{samples.num_samples} samples written to {path}, {samples.columns} a row'


def _write_npz(samples: SampleSet, path: Path) -> str:
    with _hidden_folder(path.parent) as folder:
        _collect(samples, folder / 'images.npy')
        if is_main_process():
            images = np.load(folder / 'images.npy', mmap_mode='r')
            with open(folder / path.name, 'wb') as file:
                np.savez(file, images, *([] if samples.labels is None else [samples.labels.numpy()]))
                file.flush()
                os.fsync(file.fileno())
            os.replace(folder / path.name, path)
    return f'{samples.num_samples} samples written to {path}'


@contextmanager
def _hidden_folder(parent: Path) -> Iterator[Path]:
    """A folder for what is not ready, the same for all processes; it is removed in the end."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(from_main_process(lambda: tempfile.mkdtemp(prefix='.samples.', dir=parent)))
    try:
        yield folder
    finally:
        if is_main_process():
            shutil.rmtree(folder, ignore_errors=True)


def _collect(samples: SampleSet, path: Path) -> None:
    """Makes the samples, and writes them as an array (N, H, W, 3) into one file, which all processes fill.

    Afterwards the file is the first process's, which may remove it at any time.
    """
    shape = (*samples.image_size(), 3)
    if is_main_process():
        np.lib.format.open_memmap(path, 'w+', np.uint8, (samples.num_samples, *shape))
    barrier()
    start = np.load(path, mmap_mode='r').offset
    # Plain writes, and not a mapping: a full disk is an error and not a crash, and neighbours on other nodes keep their bytes.
    with open(path, 'r+b') as file, closing(samples.batches()) as batches:
        for numbers, images in batches:
            file.seek(start + numbers.start * math.prod(shape))
            file.write(images.permute(0, 2, 3, 1).numpy().tobytes())
    barrier()
