"""Exporting the generator to a file that runs without this package, and comparing the file's images with the model's."""

import copy
import json
import logging
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mmsagan import __version__
from mmsagan.errors import ConfigError, ExportError, MMSAGANError
from mmsagan.models import ConditionalGAN
from mmsagan.models.layers.blocks import set_fast
from mmsagan.models.layers.spectral_norm import fold_spectral_norm
from mmsagan.utils import import_optional
from mmsagan.utils.files import check_writable, write_atomically

FORMATS = {'onnx': ('onnx', 'onnxscript', 'onnxruntime'), 'torchscript': (), 'pt2': ()}  # and the packages that they need
DEFAULT_OPSET = 18  # the oldest that torch's exporter writes by itself: the older the set, the more runtimes read the file
DYNAMO_EXPORTER_SINCE = (2, 9)  # from then on torch's default, instead of the exporter on top of TorchScript
METADATA_FILE = 'mmsagan.json'  # in TorchScript and pt2 archives; ONNX has a place of its own for metadata
TRACED_BATCH_SIZE = 2  # tracing takes sizes 0 and 1 for constants
CHECKED_BATCH_SIZES = (1, 5)
# A grey level is 2 / 255 = 8e-3 wide, so this is an 80th of one. Other kernels and another order of summation change an image
# by 1e-6 to 1e-5; a real mistake, such as a lost layer or a wrong label, by 1e-2 and more.
TOLERANCE = 1e-4

Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class ExportedGenerator:
    """A file that was written, run and compared with the model."""

    path: Path
    format: str
    size: int  # in bytes
    max_difference: float  # of the pixel values, in [-1, 1], of file and model
    metadata: dict[str, str]


def export_generator(
    model: ConditionalGAN, path: str | Path, format: str = 'onnx', sample_model: str | None = None, opset: int | None = None
) -> ExportedGenerator:
    """Writes the generator to one file, in evaluation mode, with plain weights for spectral norms and a free batch size.

    The inputs of the file are ``noise`` (N, noise_size), float32, and ``label`` (N,), int64; an unconditional generator has no
    ``label``. Its output ``images`` (N, 3, S, S) is RGB, float32 in [-1, 1]. The file is loaded, run and compared with the
    model before it gets its name; an ExportError is raised if it does not run, or its images are not the model's.

    Args:
        format: ``'onnx'``, ``'torchscript'`` or ``'pt2'`` (``torch.export``).
        sample_model: ``'ema'`` or ``'orig'``. Defaults to the moving average if there is one.
        opset: Operator set of an ONNX file. Defaults to 18.
    """
    path = Path(path)
    check_export_arguments(path, format, opset)
    source = model.get_generator(sample_model)
    network = copy.deepcopy(source).cpu().float().eval().requires_grad_(False)
    inputs = [_make_inputs(model, size) for size in CHECKED_BATCH_SIZES]
    with torch.no_grad():
        expected = [network(**batch) for batch in inputs]
    metadata = dict(  # ONNX allows only strings
        mmsagan_version=__version__,
        sample_model='ema' if source is model.generator_ema else 'orig',
        num_classes=str(model.num_classes),
        noise_size=str(model.noise_size),
        image_size=str(expected[0].shape[-1]),
        image_format='RGB, float32 in [-1, 1]',
    )
    # Plain layers consist of operators that every runtime knows; ONNX has none for the sums of the fast ones.
    network = set_fast(fold_spectral_norm(network), False).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    logging_disabled = logging.root.manager.disable
    try:
        # Not beside the file: the exporters crash in a folder whose name is not UTF-8.
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            # The exporters warn about deprecation, optional packages and sizes that tracing might have fixed.
            warnings.simplefilter('ignore')
            logging.disable(logging.WARNING)
            file = Path(folder, f'generator.{format}')
            _write(network, format, _make_inputs(model, TRACED_BATCH_SIZE), file, metadata, opset or DEFAULT_OPSET)
            images = _run(file, format, inputs)
            pairs = list(zip(images, expected))
            difference = max(float((batch - wanted).abs().max()) for batch, wanted in pairs)
            if not difference <= TOLERANCE or any(batch.shape != wanted.shape for batch, wanted in pairs):  # also if it is NaN
                found = f"the {format} file's images differ from the model's by up to {difference:.3g}, or in shape"
                raise ExportError(f'{found}, so it was not kept; try another format, or another version of torch')
            size = file.stat().st_size
            write_atomically(path, file.read_bytes())
    except MMSAGANError:
        raise
    except Exception as error:  # those of torch and the runtimes have no common base class
        first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)  # stack traces of torch follow it
        raise ExportError(f'torch {torch.__version__} cannot write {path} as {format} and run it: {first_line}') from error
    finally:
        logging.disable(logging_disabled)
    return ExportedGenerator(path, format, size, difference, metadata)


def check_export_arguments(path: str | Path, format: str, opset: int | None = None) -> None:
    """Raises a ConfigError if :func:`export_generator` could not export with these arguments; before a model is loaded."""
    if format not in FORMATS:
        raise ConfigError(f'unknown export format {format!r}; choose one of {", ".join(FORMATS)}')
    if opset is not None and format != 'onnx':
        raise ConfigError(f'opset={opset}: only onnx has operator sets, {format} has none')
    check_writable(path, ('.pt2',) if format == 'pt2' else ())  # torch.export.load requires it
    for package in FORMATS[format]:
        import_optional(package, 'export')


def _make_inputs(model: ConditionalGAN, batch_size: int) -> Inputs:
    """Makes the same inputs on every call, with labels from the last class to the first."""
    random = torch.Generator().manual_seed(batch_size)
    inputs = dict(noise=torch.randn(batch_size, model.noise_size, generator=random))
    if model.num_classes:
        inputs['label'] = torch.linspace(model.num_classes - 1, 0, batch_size).round().long()
    return inputs


def _write(network: nn.Module, format: str, inputs: Inputs, file: Path, metadata: dict[str, str], opset: int) -> None:
    # Without a limit, torch 2.6 raises an error about a batch of the largest int64.
    batch = torch.export.Dim('batch', min=1, max=2**31 - 1)
    dynamic_shapes = {name: {0: batch} for name in inputs}
    if format == 'torchscript':
        # The later comparison, on other inputs, replaces the trace's own check.
        traced = torch.jit.trace(network, tuple(inputs.values()), check_trace=False)
        traced.save(str(file), _extra_files={METADATA_FILE: json.dumps(metadata)})
    elif format == 'pt2':
        # The exported program takes its inputs as it was given them: by name.
        program = torch.export.export(network, (), kwargs=inputs, dynamic_shapes=dynamic_shapes, strict=False)
        for node in program.graph.nodes:
            node.meta.pop('stack_trace', None)  # it contains paths of this machine
        torch.export.save(program, file, extra_files={METADATA_FILE: json.dumps(metadata)})
    else:
        import onnx

        names = dict(input_names=list(inputs), output_names=['images'], opset_version=opset, verbose=False)
        if torch.__version__ >= DYNAMO_EXPORTER_SINCE:  # type: ignore[operator]  # it does compare with tuples
            exporter = dict(dynamo=True, dynamic_shapes=dynamic_shapes, external_data=False)
        else:
            exporter = dict(dynamo=False, dynamic_axes={name: {0: 'batch'} for name in [*inputs, 'images']})
        torch.onnx.export(network, tuple(inputs.values()), str(file), **names, **exporter)  # type: ignore[arg-type]
        model = onnx.load(str(file))
        # If it cannot convert to an operator set, the exporter only warns.
        written = next(imported.version for imported in model.opset_import if not imported.domain)
        if written != opset:
            raise ConfigError(f'opset={opset}: torch {torch.__version__} can write this network in set {written} only')
        for graph_node in model.graph.node:
            graph_node.ClearField('metadata_props')  # stack traces with paths of this machine
        onnx.helper.set_model_props(model, metadata)
        onnx.save(model, str(file))


def _run(file: Path, format: str, inputs: list[Inputs]) -> list[Tensor]:
    """Loads a file with the runtime that its users have, and makes images from each of the inputs."""
    if format == 'onnx':
        import onnxruntime

        session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
        arrays = [{name: value.numpy() for name, value in batch.items()} for batch in inputs]
        return [torch.from_numpy(session.run(['images'], batch)[0]) for batch in arrays]
    network = torch.jit.load(str(file)) if format == 'torchscript' else torch.export.load(file).module()
    return [network(**batch) for batch in inputs]
