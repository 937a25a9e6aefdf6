"""Exporting the generator to a file that runs without this package, and making sure that the file does what the model does."""

import copy
import importlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mmsagan import __version__
from mmsagan.apis.export_formats import DEFAULT_OPSET, FORMATS, Inputs
from mmsagan.errors import ConfigError, ExportError, MMSAGANError
from mmsagan.models import ConditionalGAN
from mmsagan.models.layers import set_fast
from mmsagan.models.layers.spectral_norm import fold_spectral_norm
from mmsagan.utils.files import check_writable, nearest_folder

# Tracing takes sizes 0 and 1 for constants, so the example has 2 samples. The file is then run at other sizes than that.
TRACED_BATCH_SIZE = 2
CHECKED_BATCH_SIZES = (1, 5)
# A grey level is 2 / 255 = 8e-3 wide, so this is an 80th of one. Other kernels and another order of summation change an image
# by 1e-6 to 1e-5; a real mistake, such as a lost layer or another label, by 1e-2 and more.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class ExportedGenerator:
    """A file that has been written, run and compared.

    Args:
        path: The file.
        format: ``'onnx'``, ``'torchscript'`` or ``'pt2'``.
        size: In bytes.
        max_difference: The largest difference between one of the file's pixel values and the model's, which are in [-1, 1].
        batch_sizes: At which they were compared.
        metadata: What the file says about the model.
    """

    path: Path
    format: str
    size: int
    max_difference: float
    batch_sizes: tuple[int, ...]
    metadata: dict[str, str]


def export_generator(
    model: ConditionalGAN,
    path: str | Path,
    format: str = 'onnx',
    sample_model: str | None = None,
    opset: int | None = None,
    tolerance: float = TOLERANCE,
) -> ExportedGenerator:
    """Writes the generator to one file, in evaluation mode: spectral norms become plain weights, the batch size stays free.

    The file's inputs are ``noise`` (N, noise_size), float32, and ``label`` (N,), int64; an unconditional generator has no
    ``label``. Its output ``images`` (N, 3, S, S) is RGB, float32 in [-1, 1]. The file is loaded and run before it gets its
    name, so that there is none if anything fails. The model is not changed.

    Args:
        model: The GAN, on any device.
        path: The file to write; one that exists is replaced.
        format: ``'onnx'``, ``'torchscript'`` or ``'pt2'`` (``torch.export``).
        sample_model: ``'ema'`` or ``'orig'``; None takes the moving average if there is one.
        opset: Operator set of an ONNX file; None for 18.
        tolerance: How far the file's images may be from the model's.

    Returns:
        What was written, and how well it agrees with the model.

    Raises:
        ConfigError: An argument is wrong, or a package is missing that the format needs.
        ExportError: The file does not run, or its images are not the model's.

    Example:
        >>> model = init_model(config, checkpoint)  # doctest: +SKIP
        >>> export_generator(model, 'generator.onnx').max_difference  # doctest: +SKIP
        9.5e-07
    """
    path = Path(path)
    check_export_arguments(path, format, opset)
    network = copy.deepcopy(model.sampled_network(sample_model)).cpu().float().eval().requires_grad_(False)
    checks = [_example_inputs(model, size) for size in CHECKED_BATCH_SIZES]
    expected = [_finite_images(network, inputs) for inputs in checks]
    metadata = _describe(model, sample_model, expected[0])
    # The plain layers: files hold operators that every runtime knows, and ONNX has no word for the sum that the fast ones take.
    plain = set_fast(fold_spectral_norm(network), False).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    deployed = _DeployedGenerator(plain)

    # As near to the file as there is a folder already, so that one that fails leaves no new folder either.
    with tempfile.TemporaryDirectory(dir=nearest_folder(path), prefix=f'.{path.name}.') as folder, _quiet():
        file = Path(folder) / f'generator.{FORMATS[format].suffix}'
        with _explained(f'torch {torch.__version__} cannot export this generator as {format}'):
            FORMATS[format].write(deployed, _example_inputs(model, TRACED_BATCH_SIZE), file, metadata, opset or DEFAULT_OPSET)
        with _explained(f'the {format} file cannot be run, so it was not kept'):
            run = FORMATS[format].load(file)
            images = [run(inputs) for inputs in checks]
        difference = _largest_difference(images, expected)
        # Not "difference > tolerance", which is False for NaN.
        if not difference <= tolerance:
            raise ExportError(
                f"the {format} file's images differ from the model's by up to {difference:.3g}, more than {tolerance:g}, so it "
                'was not kept; try another format, or another version of torch'
            )
        size = file.stat().st_size
        with _explained(f'{path} cannot be written'):
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, path)
    return ExportedGenerator(path, format, size, difference, CHECKED_BATCH_SIZES, metadata)


def check_export_arguments(path: str | Path, format: str, opset: int | None = None) -> None:
    """Finds mistakes before a model is loaded; the arguments are those of :func:`export_generator`.

    Raises:
        ConfigError: The format is unknown or lacks a package, the file cannot be written, or the operator set makes no sense.
    """
    path = Path(path)
    if format not in FORMATS:
        raise ConfigError(f'unknown export format {format!r}; there are {", ".join(FORMATS)}')
    if opset is not None and format != 'onnx':
        raise ConfigError(f'opset={opset}: only onnx has operator sets, {format} has none')
    if opset is not None and opset < 1:
        raise ConfigError(f'opset={opset}: operator sets are counted from 1; leave it out for {DEFAULT_OPSET}')
    if format == 'pt2' and path.suffix != '.pt2':
        raise ConfigError(f'{path} must end with .pt2, since torch.export.load wants that of its files')
    check_writable(path)
    for package in FORMATS[format].packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ConfigError(f'the {format} export needs {package} ({error}): pip install "mmsagan[export]"') from error


class _DeployedGenerator(nn.Module):
    """The generator, called with the names that the file's inputs have."""

    def __init__(self, generator: nn.Module):
        super().__init__()
        self.generator = generator

    def forward(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        return self.generator(noise, label=label)


def _example_inputs(model: ConditionalGAN, batch_size: int) -> Inputs:
    """Inputs by name, the same at every call. The labels reach from the last class to the first."""
    random = torch.Generator().manual_seed(batch_size)
    inputs = dict(noise=torch.randn(batch_size, model.noise_size, generator=random))
    if model.num_classes:
        inputs['label'] = torch.linspace(model.num_classes - 1, 0, batch_size).round().long()
    return inputs


@torch.no_grad()
def _finite_images(network: nn.Module, inputs: Inputs) -> Tensor:
    images = network(inputs['noise'], label=inputs.get('label'))
    if not images.isfinite().all():
        raise ExportError("the model's own images are not finite (NaN or infinity), so there is nothing to export")
    return images


def _describe(model: ConditionalGAN, sample_model: str | None, images: Tensor) -> dict[str, str]:
    """What the file says about the model. ONNX keeps strings only."""
    uses_ema = model.sampled_network(sample_model) is model.generator_ema
    return dict(
        mmsagan_version=__version__,
        sample_model='ema' if uses_ema else 'orig',
        num_classes=str(model.num_classes),
        noise_size=str(model.noise_size),
        image_size=str(images.shape[-1]),
        image_format='RGB, float32 in [-1, 1]',
    )


def _largest_difference(images: list[Tensor], expected: list[Tensor]) -> float:
    for batch, wanted in zip(images, expected):
        if batch.shape != wanted.shape:
            raise ExportError(
                f'the file makes images of shape {tuple(batch.shape)} where the model makes {tuple(wanted.shape)}, so it was '
                'not kept: something in the generator fixes the batch size'
            )
    return max(float((batch - wanted).abs().max()) for batch, wanted in zip(images, expected))


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Makes anything that fails in torch or in a runtime, whose exceptions have no common base, a message for the user."""
    try:
        yield
    except MMSAGANError:
        raise
    except Exception as error:
        raise ExportError(f'{what}: {error}') from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporters' warnings from the user, who has the comparison instead.

    They warn of their own deprecation, of packages that nothing here needs, and of sizes that tracing might have fixed.
    """
    disabled_before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(disabled_before)
