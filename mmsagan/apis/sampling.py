"""Images from a trained model: samples, interpolations, and sets of samples written to files by any number of processes."""

import itertools
import math
import re
import shutil
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.dist import barrier, is_main_process
from torch import Tensor

from mmsagan.datasets.image_folder import IMAGE_SUFFIXES
from mmsagan.engine.config import LOADERS
from mmsagan.errors import ConfigError, DataError, check_integers
from mmsagan.evaluation import SampleInputs
from mmsagan.evaluation.images import deterministic_float32, local_batches, truncate
from mmsagan.models import ConditionalGAN, to_uint8
from mmsagan.models.gan import unwrap
from mmsagan.registry import DATASETS
from mmsagan.utils import counted
from mmsagan.utils.files import check_writable, open_atomically, write_atomically
from mmsagan.utils.processes import from_main_process
from mmsagan.utils.progress import progress_bar
from mmsagan.visualization import class_grid, image_grid
from mmsagan.visualization.figures import encode_png

Labels = int | Sequence[int] | Tensor | np.ndarray
Noise = Tensor | np.ndarray
NPZ_NAME = 'samples.npz'


def sample(
    model: ConditionalGAN,
    num_samples: int = 16,
    labels: Labels | None = None,
    noise: Noise | None = None,
    seed: int | None = None,
    sample_model: str | None = None,
    truncation: float | None = None,
    batch_size: int = 64,
) -> Tensor:
    """Generates images: uint8 RGB (N, 3, H, W) on the CPU.

    The noise and class of sample ``i`` depend on ``i`` and the seed alone. With the same seed, these are the samples that an
    evaluation scores (``tools/test.py``, whose seed defaults to 0). Raises a ConfigError for an argument that is out of range
    or does not match the model, and a DataError for NaN or Inf.

    Args:
        num_samples: Number of images N. Ignored if ``noise`` or several labels are given, whose number is N.
        labels: One class for all samples, or a class for each; defaults to classes drawn uniformly. Floating-point class
            weights (N, num_classes) mix the embeddings of several classes.
        noise: Noise (N, noise_size); defaults to a draw from the standard normal distribution.
        seed: Seed of the noise and classes that are drawn. Defaults to a number that follows from ``torch.manual_seed``.
        sample_model: ``'ema'`` or ``'orig'``; defaults to the moving average if the model has one.
        truncation: Largest magnitude of a noise component, see :func:`truncate`; smaller ones give more typical images.

    Example:
        >>> model = init_model('configs/sagan/sagan_32_mnist_b32x1.py')
        >>> sample(model, labels=range(10), seed=0).shape
        torch.Size([10, 3, 32, 32])
    """
    model = unwrap(model)
    noise, label = resolve_inputs(model, num_samples, labels, noise, seed, truncation)
    batches = []
    for batch in split_batches(noise, label, batch_size):
        with deterministic_float32():
            images = model.sample(*batch, sample_model=sample_model)
        if not images.isfinite().all():
            raise DataError('the generated samples contain NaN or Inf: the generator has diverged')
        batches.append(to_uint8(images).cpu().contiguous())
    return torch.cat(batches)


def interpolate(
    model: ConditionalGAN,
    num_steps: int = 8,
    noise: Noise | None = None,
    labels: Labels | None = None,
    seed: int | None = None,
    sample_model: str | None = None,
    truncation: float | None = None,
    batch_size: int = 64,
) -> Tensor:
    """Interpolates between two samples in equal steps: between two noise vectors (by :func:`slerp`), two classes, or both.

    The first and the last of the ``num_steps`` images are those that :func:`sample` generates from the endpoints. Other
    arguments, errors and the result are the same; ``truncation`` is applied to each step. One endpoint is a ConfigError.

    Args:
        noise: Both endpoints (2, noise_size), or the noise of all steps, (noise_size,) or (1, noise_size). Defaults to two
            random endpoints, or, if two classes are given, to one noise vector, so that only the class changes.
        labels: One class for all steps, by default a random one, or two whose embeddings are interpolated linearly.
        seed: Seed of what is drawn: the noise of :func:`sample`'s samples 0 and 1, and the class of sample 0.
    """
    check_integers(2, num_steps=num_steps)
    model = unwrap(model)
    inputs = sample_inputs(model, seed)
    if labels is None:
        label = inputs.draw(0, 1)[1]
    else:
        label = torch.as_tensor(labels, device='cpu').reshape(-1)
        if label.is_floating_point() or len(label) not in (1, 2):
            raise ConfigError(f'labels must be one or two classes, got {labels}')
        label = label.long()
        model.check_label(label, len(label))
    has_two_classes = label is not None and len(label) == 2
    ends = inputs.noise(0, 1 if has_two_classes else 2) if noise is None else _as_noise(noise, model)
    if len(ends) > 2 or (len(ends) == 1 and not has_two_classes):
        raise ConfigError(f'cannot interpolate between {len(ends)} noise vectors; give two of them, two classes, or both')
    weights = torch.linspace(0, 1, num_steps, dtype=torch.float64)[:, None]
    if label is not None:
        # Class weights (K, num_classes), or the one class for all steps.
        classes = F.one_hot(label, model.num_classes).double()
        label = torch.lerp(classes[0], classes[-1], weights).float() if has_two_classes else label.expand(num_steps)
    ends = ends.double()
    path = slerp(ends[0], ends[1], weights) if len(ends) == 2 else ends.expand(num_steps, -1)
    return sample(
        model, labels=label, noise=path.float(), sample_model=sample_model, truncation=truncation, batch_size=batch_size
    )


def resolve_inputs(
    model: ConditionalGAN,
    num_samples: int,
    labels: Labels | None,
    noise: Noise | None,
    seed: int | None,
    truncation: float | None,
) -> tuple[Tensor, Tensor | None]:
    """Returns the noise (N, noise_size) and the classes (N,) or class weights for the arguments of :func:`sample`."""
    check_integers(1, num_samples=num_samples)
    inputs = sample_inputs(model, seed)
    label = None if labels is None else torch.as_tensor(labels, device='cpu')
    if label is not None and not label.is_floating_point():
        label = label.long()
        if label.dim() > 1:
            raise ConfigError(f'labels must be a class, or classes of shape (N,), got the shape {tuple(label.shape)}')
    if noise is None:
        noise = inputs.noise(0, num_samples if label is None or label.dim() == 0 else len(label))
    else:
        noise = _as_noise(noise, model)
    if label is None:
        _, label = inputs.draw(0, len(noise))
    elif label.dim() == 0:
        label = label.expand(len(noise))
    if label is not None:
        model.check_label(label, len(noise))
    return noise if truncation is None else truncate(noise, truncation), label


def split_batches(noise: Tensor, label: Tensor | None, batch_size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Splits noise and classes into batches of ``batch_size``."""
    check_integers(1, batch_size=batch_size)
    return zip(noise.split(batch_size), itertools.repeat(None) if label is None else label.split(batch_size))


def sample_inputs(model: ConditionalGAN, seed: int | None) -> SampleInputs:
    """Returns the noise and classes of a seed, the same as in an evaluation; None takes the seed from torch's generator."""
    if seed is None:
        seed = int(torch.randint(2**63 - 1, ()))
    check_integers(0, seed=seed)
    return SampleInputs(model.noise_size, model.num_classes, (seed, 0))


def slerp(start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    """Spherical linear interpolation of vectors (D,) with weights (K, 1) of ``end``: (K, D), along the shorter arc.

    It preserves the length of vectors of equal length, which noise vectors nearly have. Opposite vectors have no shorter arc
    and are interpolated linearly. Source: Shoemake 1985; White 2016 for noise.
    """
    first, second = F.normalize(start, dim=0), F.normalize(end, dim=0)
    # Unlike the arc cosine of the product, exact for nearly parallel and nearly opposite vectors.
    angle = 2 * torch.atan2((first - second).norm(), (first + second).norm())
    if not 1e-6 < angle < math.pi - 1e-6:
        return torch.lerp(start, end, weight)
    return (torch.sin((1 - weight) * angle) * start + torch.sin(weight * angle) * end) / torch.sin(angle)


def _as_noise(noise: Noise, model: ConditionalGAN) -> Tensor:
    vectors = torch.atleast_2d(torch.as_tensor(noise, device='cpu').float())
    if vectors.dim() != 2 or vectors.shape[1] != model.noise_size or not vectors.isfinite().all():
        raise ConfigError(f'noise must be finite numbers of shape (N, {model.noise_size}), got {tuple(vectors.shape)}')
    return vectors


def class_names(cfg: Config, num_classes: int) -> list[str]:
    """Returns the class names of the config's data set, or the class numbers if it has no names or its files are missing."""
    names: Sequence = (cfg.get('dataset_meta') or {}).get('classes') or ()  # of a model from the Hugging Face Hub
    try:
        config = next(loader['dataset'] for loader in map(cfg.get, LOADERS) if loader and 'dataset' in loader)
        kind = DATASETS.get(config['type']) if isinstance(config['type'], str) else config['type']
        names = names or getattr(kind, 'classes', ())  # some data sets know their classes without their files
        if not names or not isinstance(names, Sequence):
            names = DATASETS.build(config).metainfo['classes'] or ()
    except Exception:  # names are optional, whatever is wrong with the data set
        pass
    return [str(name) for name in (names if len(names) == num_classes else range(num_classes))]


def class_folders(names: Sequence[str]) -> list[str]:
    """Returns names of folders for classes, in the order of their labels: ``02_cat``, or ``02`` for a class without a name."""
    width = len(str(len(names) - 1))
    plain = [re.sub(r'[^\w.=()-]+', '-', name) for name in names]
    return [f'{label:0{width}d}' + (f'_{name}' if name != str(label) else '') for label, name in enumerate(plain)]


def parse_classes(text: str, names: Sequence[str] = ()) -> list[int]:
    """Parses classes from the command line: labels, ranges of them, and names; ``=10`` is the class that is called 10."""
    classes: list[int] = []
    for part in [text] if text in names else text.split(','):
        match = re.fullmatch(r'(\d{1,6})(?:-(\d{1,6}))?', part)
        name = part if part in names else part.removeprefix('=')
        labels = [label for label, other in enumerate(names) if other == name]
        if match and int(match[1]) <= int(match[2] or match[1]):
            labels = list(range(int(match[1]), int(match[2] or match[1]) + 1))
        elif len(labels) != 1:
            hint = f'it is the name of {labels}' if labels else f'write labels, such as 0-9 or 1,5,7-9, or names {[*names[:3]]}'
            raise ConfigError(f'classes {text!r}: cannot read {part!r}; {hint}')
        classes += labels
    return list(dict.fromkeys(classes))


class SampleSet:
    """Numbered samples that are distributed among the processes.

    They are ``num_per_class`` (8) samples of each of the ``classes`` (all), or ``num_samples`` (64) samples of classes drawn
    uniformly, which are those that an evaluation scores and the only choice for an unconditional model. ``amp`` computes in
    bfloat16; ``options`` are ``sample_model`` and ``truncation`` of :func:`sample`. ``names`` (num_classes,) of the classes, if
    they are known, are written into files.
    """

    names: Sequence[str] = ()

    def __init__(
        self,
        model: ConditionalGAN,
        classes: Sequence[int] | None = None,
        num_per_class: int | None = None,
        num_samples: int | None = None,
        seed: int = 0,
        batch_size: int = 64,
        amp: bool = False,
        **options: Any,
    ):
        if (classes is not None or num_per_class is not None) and (num_samples is not None or not model.num_classes):
            raise ConfigError('--num-samples does not go with --labels and --num-per-class, which need a model with classes')
        self.model, self.batch_size, self.amp, self.options = model, batch_size, amp, options
        self.inputs = sample_inputs(model, seed)
        if num_samples is not None or not model.num_classes:
            self.num_samples = num_samples or 64
            _, self.labels = self.inputs.draw(0, self.num_samples)
            self.columns = math.ceil(math.sqrt(self.num_samples))
            self.rows: list[int] = []
        else:
            self.columns = num_per_class or 8
            self.rows = [*(classes or range(model.num_classes))]  # one class each
            self.labels = torch.tensor(self.rows).repeat_interleave(self.columns)
            self.num_samples = len(self.labels)
            model.check_label(self.labels, self.num_samples)

    def batches(self) -> Generator[tuple[range, Tensor], None, None]:
        """Generates this process's batches: sample numbers, and uint8 images (N, 3, H, W)."""
        ranges = local_batches(self.num_samples, self.batch_size)
        with progress_bar('samples', sum(map(len, ranges))) as advance, self.model.inference_copy(self.amp):
            for numbers in ranges:
                labels = None if self.labels is None else self.labels[numbers.start : numbers.stop]
                noise = self.inputs.noise(numbers.start, numbers.stop)
                yield numbers, sample(self.model, noise=noise, labels=labels, batch_size=self.batch_size, **self.options)
                advance(len(numbers))


def check_output(out: Path, npz: bool) -> None:
    """Raises a ConfigError if :func:`write_samples` could not write, or would mix samples with other files in a folder."""
    if out.suffix.lower() in (*IMAGE_SUFFIXES, '.npz') and not out.is_dir():
        if npz or out.suffix.lower() != '.png':
            raise ConfigError(f'{out} must be a folder, with --npz for {NPZ_NAME} in it, or without it a .png file for a grid')
        check_writable(out)
        return
    check_writable(out / NPZ_NAME)
    other = None if npz else next(out.glob('[!.]*'), None)
    if other:
        raise ConfigError(f'{out} is not empty ({other.name}): remove it or choose another folder')


def write_samples(samples: SampleSet, out: Path, npz: bool = False) -> str:
    """Generates samples and writes them to files; each process writes its share. Returns a line that says what was written.

    A name that ends with .png gets a grid, with the names of the classes at the left; otherwise ``out`` is a folder for
    ``<label>_<name>/<number>.png``, or with ``npz`` for one .npz file as ADM's: images ``arr_0`` (N, H, W, 3) uint8 and classes
    ``arr_1`` (N,), which an unconditional model omits.
    """
    barrier()  # no process writes before all have checked the output
    path = out / NPZ_NAME if npz else out
    is_grid = not npz and out.suffix.lower() == '.png' and not out.is_dir()
    folders = class_folders(samples.names or [*map(str, range(samples.model.num_classes))])

    def write(number: int, image: np.ndarray) -> None:
        # Padded with zeros so that the alphabetical order is the numerical one.
        name = f'{number:0{len(str(samples.num_samples - 1))}d}.png'
        folder = '' if samples.labels is None else folders[int(samples.labels[number])]
        write_atomically(out / folder / name, encode_png(image))

    try:
        if npz or is_grid:
            _write_file(samples, path)
        else:
            # Several threads: encoding a PNG takes longer than generating a small image on a GPU.
            with ThreadPool(4) as pool, closing(samples.batches()) as batches:
                for numbers, images in batches:
                    pool.starmap(write, zip(numbers, images.permute(0, 2, 3, 1).numpy()))
            barrier()
    except OSError as error:
        raise ConfigError(f'{out} cannot be written: {error}') from error
    note = f', {samples.columns} per row' if is_grid else '' if npz or samples.labels is None else ', one folder per class'
    return f'{counted(samples.num_samples, "sample")} written to {path}{note}'


def _write_file(samples: SampleSet, path: Path) -> None:
    """Writes a grid (.png) or the arrays (.npz), from a scratch file that all processes fill."""
    size = samples.model.generator.output_scale
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(from_main_process(lambda: tempfile.mkdtemp(prefix='.samples.', dir=path.parent)))
    array = scratch / 'images.npy'
    try:
        if is_main_process():
            np.lib.format.open_memmap(array, 'w+', np.uint8, (samples.num_samples, size, size, 3))
        barrier()
        start = np.load(array, mmap_mode='r').offset
        # Plain writes, not a memory map: a full disk raises an error instead of SIGBUS, and pages shared with another node's
        # process are not overwritten.
        with open(array, 'r+b') as file, closing(samples.batches()) as batches:
            for numbers, images in batches:
                file.seek(start + numbers.start * size * size * 3)
                file.write(images.permute(0, 2, 3, 1).numpy().tobytes())
        barrier()
        if is_main_process():
            content = np.load(array, mmap_mode='c')  # copy on write: torch.from_numpy requires a writable array
            if path.suffix == '.npz':
                with open_atomically(path) as file:
                    np.savez(file, content, *([] if samples.labels is None else [samples.labels.numpy()]))
            else:
                images = torch.from_numpy(content).permute(0, 3, 1, 2)
                names = [samples.names[label] for label in samples.rows] if samples.names else []
                try:
                    picture = class_grid(images, names) if names else image_grid(images, samples.columns)
                except ConfigError:  # too large for the figure that the names are drawn in
                    picture = image_grid(images, samples.columns)
                write_atomically(path, encode_png(picture))
    finally:
        if is_main_process():
            shutil.rmtree(scratch, ignore_errors=True)
