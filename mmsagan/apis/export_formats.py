"""The formats that a generator can be exported to: how each is written, and loaded again by the runtime that its users have."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mmsagan.errors import ConfigError

# The oldest operator set that torch's exporter writes by itself: the older the set, the more runtimes read the file.
DEFAULT_OPSET = 18
DYNAMO_EXPORTER_SINCE = (2, 9)
# Where TorchScript and pt2 archives have the metadata; ONNX has a place of its own for them.
METADATA_FILE = 'mmsagan.json'

Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Format:
    """How a format is written and loaded again.

    Args:
        suffix: Of its files.
        packages: What has to be installed for it.
        write: (network, example inputs, file, metadata, operator set) -> None; the network's batch size is to be left free.
        load: A file -> a function of the inputs that makes images.
    """

    suffix: str
    packages: tuple[str, ...]
    write: Callable[[nn.Module, Inputs, Path, dict[str, str], int], None]
    load: Callable[[Path], Callable[[Inputs], Tensor]]


def _write_onnx(network: nn.Module, inputs: Inputs, file: Path, metadata: dict[str, str], opset: int) -> None:
    import onnx

    torch.onnx.export(
        network,
        tuple(inputs.values()),
        str(file),
        input_names=list(inputs),
        output_names=['images'],
        opset_version=opset,
        verbose=False,
        **_exporter_options(inputs),
    )
    model = onnx.load(str(file))
    # Where the exporter cannot convert to a set, it warns and keeps to another one.
    written = next(imported.version for imported in model.opset_import if not imported.domain)
    if written != opset:
        raise ConfigError(f'opset={opset}: torch {torch.__version__} can write this network in set {written}, but not in this')
    # The exporter notes stack traces with the paths of this machine.
    for node in model.graph.node:
        node.ClearField('metadata_props')
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, str(file))


def _exporter_options(inputs: Inputs) -> dict:
    """Chooses between torch's two exporters, and says in its words that the batch size is free."""
    # The one over torch.export is the default since torch 2.9, and older ones of it do not fit today's onnxscript; the one over
    # TorchScript is deprecated since then.
    if torch.__version__ >= DYNAMO_EXPORTER_SINCE:  # type: ignore[operator]  # it does compare with tuples
        return dict(dynamo=True, dynamic_shapes=_free_batch_size(inputs), external_data=False)
    return dict(dynamo=False, dynamic_axes={name: {0: 'batch'} for name in [*inputs, 'images']})


def _load_onnx(file: Path) -> Callable[[Inputs], Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])

    def run(inputs: Inputs) -> Tensor:
        (images,) = session.run(['images'], {name: value.numpy() for name, value in inputs.items()})
        return torch.from_numpy(images)

    return run


def _write_torchscript(network: nn.Module, inputs: Inputs, file: Path, metadata: dict[str, str], opset: int) -> None:
    # The comparison, with other inputs, takes the place of the trace's own check.
    traced = torch.jit.trace(network, tuple(inputs.values()), check_trace=False)
    traced.save(str(file), _extra_files={METADATA_FILE: json.dumps(metadata)})


def _load_torchscript(file: Path) -> Callable[[Inputs], Tensor]:
    network = torch.jit.load(str(file))
    return lambda inputs: network(**inputs)


def _write_pt2(network: nn.Module, inputs: Inputs, file: Path, metadata: dict[str, str], opset: int) -> None:
    # As keywords, since the file keeps to the way in which it was called.
    program = torch.export.export(network, (), kwargs=inputs, dynamic_shapes=_free_batch_size(inputs), strict=False)
    # As in ONNX files.
    for node in program.graph.nodes:
        node.meta.pop('stack_trace', None)
    torch.export.save(program, file, extra_files={METADATA_FILE: json.dumps(metadata)})


def _load_pt2(file: Path) -> Callable[[Inputs], Tensor]:
    network = torch.export.load(file).module()
    return lambda inputs: network(**inputs)


def _free_batch_size(inputs: Inputs) -> dict:
    # With no limit of its own, torch 2.6 finds fault with a batch of the largest int64.
    batch = torch.export.Dim('batch', min=1, max=2**31 - 1)
    return {name: {0: batch} for name in inputs}


FORMATS = {
    'onnx': Format('onnx', ('onnx', 'onnxscript', 'onnxruntime'), _write_onnx, _load_onnx),
    'torchscript': Format('pt', (), _write_torchscript, _load_torchscript),
    'pt2': Format('pt2', (), _write_pt2, _load_pt2),
}
