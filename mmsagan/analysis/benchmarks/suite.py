"""From what is asked for to measurements: checks, settings of the process, one workload after the other."""

import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config

from mmsagan.analysis.benchmarks.attention import SIZES as ATTENTION_SIZES
from mmsagan.analysis.benchmarks.attention import attention_workload
from mmsagan.analysis.benchmarks.data import data_workload
from mmsagan.analysis.benchmarks.evaluation import EXTRACTORS, NUM_SAMPLES, check_num_samples, evaluation_workload
from mmsagan.analysis.benchmarks.models import sample_workload, step_workload
from mmsagan.analysis.benchmarks.sides import ALLOCATORS, Setup
from mmsagan.analysis.hardware import PRECISIONS, MatmulPeak, describe_device, matmul_peak
from mmsagan.analysis.measuring import MIN_ROUNDS, check_rounds
from mmsagan.analysis.profiling import profile_action, profile_table
from mmsagan.analysis.workloads import Measurement, Workload, measure
from mmsagan.apis.zoo import resolve_config
from mmsagan.engine.config import load_config
from mmsagan.engine.distributed import find_device
from mmsagan.errors import ConfigError
from mmsagan.utils.memory import keep_freed_memory, return_freed_memory

# What can be measured: the fast side, and the reference.
SUBJECTS = dict(
    step=('one update of D and one of G', 'plain layers in contiguous memory, two passes of D, float32, Adam not fused'),
    sample=('a batch of samples', 'plain layers, float32, spectral norms computed in every call'),
    attention=(
        "PyTorch's fused attention, forward and backward, by the size of the map",
        'the plain softmax, in equal precision',
    ),
    eval=('IS and FID in one pass, float32', 'a pass for each, plain layers, FID by scipy.linalg.sqrtm'),
    data=('reading a packed data set, up to float images on the device', 'decoding JPEGs; neither has loader processes'),
)
AGAINST = ('reference', 'none')
DEVICES = ('cpu', 'cuda')
DEFAULT_CONFIG = 'sagan_32_woReLUinplace_cifar10_b64x1'
_OF_NETWORKS, _LONG = ('step', 'sample'), 'eval'
_COUNTED = (*_OF_NETWORKS, 'attention')
# Those that have configs of their own.
_WITHOUT_CONFIG = {'data', 'attention'}


@dataclass(frozen=True)
class BenchmarkOptions:
    """What is to be measured.

    Args:
        what: Names from :data:`SUBJECTS`.
        configs: Files or names of configs; :data:`DEFAULT_CONFIG`. ``data`` is measured once, with configs of its own.
        against: One of :data:`AGAINST`.
        device: ``'cpu'`` or ``'cuda'``, perhaps with a number; None: a GPU if there is one.
        precisions: Names from :data:`~mmsagan.analysis.hardware.PRECISIONS`: the fast sides of ``step`` and ``sample``.
        batch_size: Images at a time; None: see :func:`~mmsagan.analysis.benchmarks.sides.default_batch_size`.
        rounds: Timed calls of each side; None: :data:`~mmsagan.analysis.measuring.MIN_ROUNDS`, and 1 of ``eval``.
        threads: Of the CPU; None: as PyTorch has them.
        num_samples: Of ``eval`` and ``data``; None: see there.
        cfg_options: Dotted config keys and their new values.
        reference_allocator: See :class:`~mmsagan.analysis.benchmarks.sides.Setup`.
        inception_style: Of ``eval``, a name from :data:`~mmsagan.analysis.benchmarks.evaluation.EXTRACTORS`.
        data_root: Of ``data``: a folder with one folder of images a class; None makes images.
        profile: So many operators are listed that the fast sides of what has FLOPs counted spend most time in; 0: none.

    Raises:
        ConfigError: There is no such name, or there are too few rounds or samples.
    """

    what: Sequence[str] = ('step',)
    configs: Sequence[str | Path] = (DEFAULT_CONFIG,)
    against: str = 'reference'
    device: str | None = None
    precisions: Sequence[str] = ('fp32',)
    batch_size: int | None = None
    rounds: int | None = None
    threads: int | None = None
    num_samples: int | None = None
    cfg_options: Mapping | None = None
    reference_allocator: str = 'default'
    inception_style: str = 'digits'
    data_root: str | None = None
    profile: int = 0

    def __post_init__(self):
        check_names('what', self.what, SUBJECTS)
        check_names('precision', self.precisions, PRECISIONS)
        check_names('against', [self.against], AGAINST)
        check_names('reference allocator', [self.reference_allocator], ALLOCATORS)
        check_names('inception style', [self.inception_style], EXTRACTORS)
        for what in self.what:
            check_rounds(self.rounds_of(what), 1 if what == _LONG else MIN_ROUNDS)
        if 'eval' in self.what:
            check_num_samples(self.num_samples or NUM_SAMPLES, self.inception_style)

    def rounds_of(self, what: str) -> int:
        """Timed calls of each side."""
        return self.rounds or (1 if what == _LONG else MIN_ROUNDS)


def check_names(what: str, names: Sequence[str], known: Sequence[str] | Mapping) -> None:
    """Raises a ConfigError if there are no names, or one that is not known."""
    wrong = next((name for name in names if name not in known), None)
    if wrong is not None or not names:
        raise ConfigError(f'{what} must be of {", ".join(known)}, got {wrong or "nothing"!r}')


def run_benchmarks(
    options: BenchmarkOptions,
    say: Callable[[str], None] = print,
    keep: Callable[[Sequence[Measurement]], None] = lambda measurements: None,
) -> list[Measurement]:
    """Measures what is asked for.

    Args:
        options: What.
        say: Takes the lines that describe the measurements, before they are made.
        keep: Called after every measurement, with all so far.

    Raises:
        ConfigError: Something cannot be measured here, or a config cannot be read; all are read before the first measurement.
    """
    device = benchmark_device(options.device)
    if options.data_root is not None and not Path(options.data_root).is_dir():
        raise ConfigError(f'--data-root {options.data_root} is no folder; it should hold one folder of images a class')
    configs = _load_configs(options) if set(options.what) - _WITHOUT_CONFIG else []
    setup = Setup(device, options.against == 'reference', options.reference_allocator)
    measurements: list[Measurement] = []
    with process_settings(device, options.threads), tempfile.TemporaryDirectory() as folder:
        for line in heading(options, device):
            say(line)
        peaks = _matmul_peaks(options, device, say)
        for make in _workloads(options, configs, setup, Path(folder)):
            if device.type == 'cpu':
                keep_freed_memory()  # as in all tools; sides that are to do otherwise set it themselves
            workload = make()
            measurements.append(_measure(workload, device, peaks, options))
            keep(measurements)
            if options.profile and workload.what in _COUNTED:
                say(_profile(workload, device, options.profile))
            del workload  # before the next one is built
    return measurements


def _measure(
    workload: Workload, device: torch.device, peaks: Mapping[str, MatmulPeak], options: BenchmarkOptions
) -> Measurement:
    counted = workload.what in _COUNTED
    # What takes minutes is not called just to warm up, and for what reads files or takes minutes, memory is not measured.
    return measure(
        workload,
        device,
        peaks[workload.precision] if counted else None,
        options.rounds_of(workload.what),
        warmup=0 if workload.what == _LONG else 2,
        memory=counted,
    )


def _profile(workload: Workload, device: torch.device, rows: int) -> str:
    if workload.before_fast is not None:
        workload.before_fast()
    table = profile_table(profile_action(workload.fast, device), rows)
    return f'\nprofile of {workload.what}, {workload.config}, {workload.precision}\n{table}\n'


def _load_configs(options: BenchmarkOptions) -> list[tuple[str, Config]]:
    """The configs with their names."""
    configs = []
    for name in options.configs:
        path = resolve_config(name)
        cfg = load_config(path, dict(options.cfg_options or {}))
        if not isinstance(cfg.get('model'), Mapping):
            raise ConfigError(f'{path} has no model')
        configs.append((path.stem, cfg))
    return configs


def _workloads(
    options: BenchmarkOptions, configs: Sequence[tuple[str, Config]], setup: Setup, folder: Path
) -> Iterator[Callable[[], Workload]]:
    """What makes the workloads, each when its turn comes: memory has to hold the networks of one only."""
    size, count = options.batch_size, options.num_samples
    for what in dict.fromkeys(options.what):
        if what == 'data':
            yield partial(data_workload, options.data_root, count, size, setup, folder)
            continue
        if what == 'attention':
            for map_size, precision in itertools.product(ATTENTION_SIZES, dict.fromkeys(options.precisions)):
                yield partial(attention_workload, map_size, precision, size, setup)
            continue
        for name, cfg in configs:
            if what == 'eval':
                yield partial(evaluation_workload, cfg, name, options.inception_style, count, size, setup)
                continue
            for precision in dict.fromkeys(options.precisions):
                build = dict(step=step_workload, sample=sample_workload)[what]
                yield partial(build, cfg, name, precision, size, setup)


def _matmul_peaks(options: BenchmarkOptions, device: torch.device, say: Callable[[str], None]) -> dict[str, MatmulPeak]:
    """The device's peaks in the precisions that networks are measured in."""
    if not set(options.what) & set(_COUNTED):
        return {}
    peaks = {precision: matmul_peak(device, precision) for precision in dict.fromkeys(options.precisions)}
    say('matmul peak, ' + '; '.join(map(str, peaks.values())))
    return peaks


# ----------------------------------------------------------------------------------------------------------------- machine


def benchmark_device(name: str | None) -> torch.device:
    """The device of a name; None takes a GPU if there is one.

    Raises:
        ConfigError: There is none, or it cannot be waited for, so that times would be wrong.
    """
    kind = name.split(':')[0] if name else None
    if kind is not None and kind not in DEVICES:
        raise ConfigError(f'--device {name}: measured can be {" and ".join(DEVICES)}')
    if kind == 'cuda' and not torch.cuda.is_available():
        raise ConfigError(
            f'--device {name}: PyTorch {torch.__version__} finds no GPU here; see whether nvidia-smi does and whether PyTorch '
            'is built for CUDA, or measure with --device cpu'
        )
    return find_device(name or ('cuda' if torch.cuda.is_available() else 'cpu'))


@contextmanager
def process_settings(device: torch.device, threads: int | None = None) -> Iterator[None]:
    """Within it, the number of threads is as asked for, and a GPU may use what is stock and fastest: TF32, cudnn's trials.

    Afterwards all is as before, and the process gives back what it frees.
    """
    before = torch.get_num_threads()
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    flags = (cuda.allow_tf32, cudnn.allow_tf32, cudnn.benchmark)
    if threads:
        torch.set_num_threads(threads)
    if device.type == 'cuda':
        cuda.allow_tf32 = cudnn.allow_tf32 = cudnn.benchmark = True
    try:
        yield
    finally:
        torch.set_num_threads(before)
        cuda.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = flags
        return_freed_memory()


def heading(options: BenchmarkOptions, device: torch.device) -> list[str]:
    """Lines that say what is measured, on what, and against what."""
    lines = [f'{date.today()}, {describe_device(device)}']
    if device.type == 'cuda':
        lines[0] += f', {torch.get_num_threads()} CPU threads'
        lines.append('TF32 in matrix products and convolutions and cudnn.benchmark are on, on both sides')
    compared = options.against == 'reference'
    for what in dict.fromkeys(options.what):
        fast, reference = SUBJECTS[what]
        lines.append(f'{what}: {fast}' + (f'; reference: {reference}' if compared else ''))
    if device.type == 'cpu' and compared and set(options.what) & set(_OF_NETWORKS):
        lines.append(f'freed memory, step and sample: fast: kept by the process; reference: {options.reference_allocator}')
    return lines
