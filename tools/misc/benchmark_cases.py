"""What benchmark.py measures, and how: the cases, both sides of each, their times, memory and FLOPs."""

import argparse
import copy
import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice, product
from pathlib import Path

import numpy as np
import torch
from flop_counts import FORMULAS
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import OptimWrapperDict, build_optim_wrapper
from mmengine.runner import Runner
from PIL import Image
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer
from torch.utils.benchmark import timer as clock
from torch.utils.flop_counter import FlopCounterMode

from mmsagan.datasets import ImageFolder
from mmsagan.datasets.packed import pack_dataset
from mmsagan.engine.config import config_errors, load_config
from mmsagan.errors import ConfigError
from mmsagan.evaluation import (
    Evaluator,
    FrechetInceptionDistance,
    KernelInceptionDistance,
    Moments,
    Statistics,
    authenticity,
    frechet_distance,
    precision_recall,
    save_statistics,
)
from mmsagan.evaluation.inception_v3 import InceptionV3
from mmsagan.evaluation.metrics.fid import frechet_distance_at_infinity
from mmsagan.models import ConditionalGAN, SelfAttentionBlock
from mmsagan.registry import MODELS
from mmsagan.utils.files import shipped_root
from mmsagan.utils.memory import MMAP_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD, keep_freed_memory

MB = 2**20
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16}
FEATURES = {'digits': 64, 'pytorch': 2048}  # of the extractors
Action = Callable[[], object]
Cases = Iterator[tuple[str, str, int, list[Action]]]  # config, precision, images per call, the fast side and the reference


# --------------------------------------------------------------------------------------------- what is measured: both sides


def build_gans(cfg: Config, args: argparse.Namespace) -> list[ConditionalGAN]:
    """Builds the fast GAN and, unless it is measured alone, a plain one with equal weights."""
    if not cfg.get('model'):
        raise ConfigError(f'{cfg.filename} has no model')
    options = [dict(cfg.model, fast=True), dict(cfg.model, fast=False, compile_cfg=None)]
    with config_errors():
        gans = [MODELS.build(each).to(args.device).train() for each in options[: 1 if args.against == 'none' else 2]]
    gans[0].init_weights()
    gans[-1].load_state_dict(gans[0].state_dict())
    return gans


def batch_size_of(cfg: Config, args: argparse.Namespace) -> int:
    """The batch size that is asked for, or the config's, on a CPU at most what takes seconds."""
    size = args.batch_size or (cfg.get('train_dataloader') or {}).get('batch_size')
    if size is None:
        raise ConfigError(f'{cfg.filename} has no train_dataloader.batch_size; pass --batch-size')
    limit = 64 if cfg.model.generator.output_scale <= 32 else 16
    return size if args.batch_size or args.device.type != 'cpu' else min(size, limit)


def training_steps(args: argparse.Namespace, configs: list[Config], folder: Path) -> Cases:
    """One update of D and one of G; the reference has plain layers, two passes of D, float32 and an Adam that is not fused."""

    def step(gan: ConditionalGAN, optimizers: OptimWrapperDict, images: Tensor, label: Tensor) -> None:
        gan.train_discriminator(images, label, optimizers['discriminator'])
        gan.train_generator(len(images), optimizers['generator'])

    for cfg, precision in product(configs, args.precision):
        if precision == 'bf16' and args.device.type != get_device():
            raise ConfigError(f'bf16 steps run on the {get_device()}; to measure on the CPU, set CUDA_VISIBLE_DEVICES=')
        gans, batch_size, actions = build_gans(cfg, args), batch_size_of(cfg, args), []
        size = gans[0].generator.output_scale
        images = 2 * torch.rand(batch_size, 3, size, size, device=args.device) - 1
        label = torch.randint(max(1, gans[0].num_classes), (batch_size,), device=args.device)
        for gan in gans:
            settings = copy.deepcopy(cfg.get('optim_wrapper') or {})
            settings['type'] = {'fp32': 'OptimWrapper', 'bf16': 'BFloat16OptimWrapper'}[precision]
            if not gan.fast:
                settings['type'] = 'mmengine.OptimWrapper'
                for network in ('generator', 'discriminator'):
                    settings[network].optimizer.fused = False
            with config_errors():
                actions.append(partial(step, gan, build_optim_wrapper(gan, settings), images, label))
        yield Path(cfg.filename).stem, precision, batch_size, actions


def sampling(args: argparse.Namespace, configs: list[Config], folder: Path) -> Cases:
    """A batch of samples; the reference has plain layers, float32 and power iterations in every call."""
    for cfg, precision in product(configs, args.precision):
        gans, batch_size = build_gans(cfg, args), batch_size_of(cfg, args)
        with gans[0].inference_copy(amp=precision == 'bf16'):
            yield Path(cfg.filename).stem, precision, batch_size, [partial(gan.sample, num_samples=batch_size) for gan in gans]


def attention(args: argparse.Namespace, configs: list[Config], folder: Path) -> Cases:
    """PyTorch's fused attention over 64 channels, forward and backward; the reference is the plain softmax, equally precise.

    Then the same without padding to the widths of the fused kernels; the reference is with it.
    """

    def attend(function: Callable, features: Tensor, precision: str) -> None:
        x = features.detach().requires_grad_()
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=precision == 'bf16'):
            attended = function(x)
        attended.float().sum().backward()

    for size, precision in product((16, 32, 64), args.precision):
        block = SelfAttentionBlock(64).to(args.device, memory_format=torch.channels_last)
        features = torch.randn(args.batch_size or 32, 64, size, size, device=args.device)
        features = features.contiguous(memory_format=torch.channels_last)
        unpadded = partial(block.attend_fused, pads=False)
        for name, functions in (('', (block.attend_fused, block.attend)), ('_unpadded', (unpadded, block.attend_fused))):
            actions = [partial(attend, function, features, precision) for function in functions]
            yield f'feat{size}{name}', precision, len(features), actions


class ScipyFID(FrechetInceptionDistance):
    """FID by a matrix square root, as in published code."""

    def compute(self, fake):
        from scipy.linalg import sqrtm  # not a dependency of the package

        mean, cov = fake.mean.cpu().numpy(), fake.cov.cpu().numpy()
        real_mean, real_cov = np.asarray(self.real.mean), np.asarray(self.real.cov)
        return dict(fid=float(((mean - real_mean) ** 2).sum() + np.trace(cov + real_cov - 2 * sqrtm(cov @ real_cov).real)))


def evaluation(args: argparse.Namespace, configs: list[Config], folder: Path) -> Cases:
    """IS and FID in one pass, float32; the reference does a pass for each, with plain layers, and FID by scipy.linalg.sqrtm.

    Real statistics are random, and so are the weights of Inception, which takes as long with them.
    """
    count, width = args.num_samples or 10_000, FEATURES[args.inception_style]
    if count <= width:
        raise ConfigError(f'--num-samples {count} is too few for FID by {width} features')
    features = np.random.default_rng(0).standard_normal((2 * width, width))
    save_statistics(Statistics(features.mean(0), np.cov(features, rowvar=False), size=2 * width), folder / 'real.npz')
    common = dict(fake_nums=count, inception_style=args.inception_style)
    if args.inception_style == 'pytorch':
        torch.save(InceptionV3().state_dict(), folder / 'inception.pth')
        common['inception_path'] = str(folder / 'inception.pth')
    score = dict(common, type='InceptionScore', resize=False)  # as FID, so that both share one extraction
    fid = dict(common, type='FrechetInceptionDistance', inception_pkl=str(folder / 'real.npz'))

    def evaluate(gan: ConditionalGAN, passes: list[Evaluator], batch_size: int) -> dict:
        return {name: value for each in passes for name, value in each.evaluate_model(gan, None, batch_size).items()}

    for cfg in configs:
        batch_size, actions = batch_size_of(cfg, args), []
        for gan, passes in zip(build_gans(cfg, args), ([[score, fid]], [[score], [dict(fid, type=ScipyFID)]])):
            evaluators = [Evaluator(metrics) for metrics in passes]
            for evaluator in evaluators:
                evaluator.prepare(args.device, batch_size, None, gan)
            actions.append(partial(evaluate, gan, evaluators, batch_size))
            # A batch to warm up; a whole pass would take as long as what is measured.
            Evaluator([dict(score, fake_nums=batch_size, splits=1)]).evaluate_model(gan, None, batch_size)
        yield Path(cfg.filename).stem, 'fp32', count, actions


def metrics(args: argparse.Namespace, configs: list[Config], folder: Path) -> Cases:
    """Metrics of random float32 features, once these are there; the reference is torch-fidelity, where it is installed.

    Only the first call of KID computes the real images' terms, as in a training run.
    """
    count, width, random = args.num_samples or 10_000, args.num_features, torch.Generator().manual_seed(0)
    kid, banks, moments = KernelInceptionDistance(count, inception_style='digits'), [], []
    sets = [torch.randn(count, width, generator=random) for _ in range(2)]
    for features, is_real in zip(sets, (True, False)):
        banks.append(kid.new_accumulator(count, width, args.device, is_real))
        moments.append(Moments(width))
        for accumulator in (banks[-1], moments[-1]):
            accumulator.update(features, torch.arange(count), torch.zeros(count, dtype=torch.long))
            accumulator.finish()
    kid.take_real(banks[0], None)
    (mean, cov), other = ((each.mean.numpy(), each.cov.numpy()) for each in moments)
    cases = dict(
        KID=[partial(kid.compute, banks[1])],
        PR=[lambda: precision_recall(*(features.to(args.device) for features in sets))],
        AuthPct=[lambda: authenticity(*(features.to(args.device) for features in sets))],
        FID=[partial(frechet_distance, mean, cov, *other)],
        FIDInfinity=[partial(frechet_distance_at_infinity, mean, cov, sets[1])],
    )
    with suppress(ImportError, RuntimeError):  # not a dependency of the package; it may find a torchvision of another torch
        from torch_fidelity import metric_fid, metric_kid, metric_prc

        subsets, quiet = dict(kid_subsets=100, kid_subset_size=min(1000, count)), dict(verbose=False)
        cases['KID'].append(partial(metric_kid.kid_features_to_metric, *sets, **subsets, **quiet))
        cases['PR'].append(partial(metric_prc.prc_features_to_metric, *sets[::-1], **quiet))  # samples come first
        theirs = [dict(mu=mean, sigma=cov) for mean, cov in ((mean, cov), other)]
        cases['FID'].append(partial(metric_fid.fid_statistics_to_metric, *theirs, **quiet))
    for name, actions in cases.items():
        yield name, 'fp32', count, actions


def data_loading(args: argparse.Namespace, configs: list[Config], folder: Path) -> Cases:
    """Reading a packed data set in this process, up to float images on the device; the reference decodes JPEGs.

    The images are noise of several scales, as large as ImageNet's on average: 500x375 pixels, 110 KB.
    """
    random, batch_size = np.random.default_rng(0), args.batch_size or 64
    count = (args.num_samples or 512) // batch_size
    for index in range(count * batch_size):
        pixels = np.full((375, 500, 3), 127.5, np.float32)
        for scale, strength in ((128, 60), (32, 30), (8, 16), (2, 34)):
            coarse = random.integers(0, 256, (375 // scale + 2, 500 // scale + 2, 3), dtype=np.uint8)
            fine = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
            pixels += (np.asarray(fine, np.float32) - 127.5) * (strength / 74)  # 74: standard deviation of the noise
        path = folder / 'jpegs' / f'class_{index % 10}' / f'{index:06d}.JPEG'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    pack_dataset(ImageFolder(data_root=str(folder / 'jpegs')), folder / 'packed', 128, 'short-side')
    packed = dict(data_root=str(folder / 'packed'))
    jpegs = dict(type='ImageFolder', data_root=str(folder / 'jpegs'), ann_file='', data_prefix='')

    def read(batches: Iterator, preprocessor: torch.nn.Module) -> None:
        for batch in islice(batches, count):
            preprocessor(batch, True)

    actions = []
    for name, dataset in (('imagenet_packed_128', packed), ('imagenet_128', jpegs)):
        loader = load_config(shipped_root() / 'configs' / '_base_' / 'datasets' / f'{name}.py').train_dataloader
        loader.update(batch_size=batch_size, num_workers=0, persistent_workers=False, pin_memory=args.device.type == 'cuda')
        loader.dataset.update(dataset)
        preprocessor = MODELS.build(dict(type='DataPreprocessor')).to(args.device)
        actions.append(partial(read, iter(Runner.build_dataloader(loader, seed=0)), preprocessor))
    yield 'imagenet_packed_128', 'fp32', count * batch_size, actions


WORKLOADS = dict(step=training_steps, sample=sampling, attention=attention, eval=evaluation, metrics=metrics, data=data_loading)


# --------------------------------------------------------------------------------------------------------------- measuring


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """The highest rate of products of square matrices, in FLOP/s."""
    best = 0.0
    for size in (2048, 4096, 8192) if device.type == 'cuda' else (256, 512, 1024, 2048):
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        timer = Timer('a @ b', globals=dict(a=a, b=b), num_threads=torch.get_num_threads())
        seconds = min(timer.blocked_autorange(min_run_time=0.5).times)
        best = max(best, 2 * size**3 / seconds)
        if seconds > 0.2:  # bfloat16 that is emulated
            break
    return best


def time_in_turns(sides: dict[str, Action], prepare: dict[str, Action], rounds: int, warmup: int) -> dict[str, list[float]]:
    """Returns the seconds of each call, those to warm up included; who begins changes from round to round.

    ``prepare`` sets the process up for a side before each of its turns, which then begins with a call that is not timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    gc.collect()
    gc.freeze()  # so that collecting between the calls takes no time
    for turn in range(warmup + rounds):
        for name in list(sides)[:: 1 if turn % 2 else -1]:
            if name in prepare:
                prepare[name]()
                if turn >= warmup:
                    sides[name]()
            gc.collect()
            gc.disable()
            started = clock()  # waits for a GPU
            sides[name]()
            seconds[name].append(clock() - started)
            gc.enable()
    gc.unfreeze()
    return seconds


def return_freed_memory() -> None:
    """Undoes keep_freed_memory, and returns free memory to the kernel, as in a process that runs the reference alone."""
    library = ctypes.CDLL('libc.so.6')
    # glibc adapts both thresholds until one is set; these are its values in a program with large tensors.
    for parameter, value in ((MMAP_MAX, 65536), (MMAP_THRESHOLD, 32 * MB), (TRIM_THRESHOLD, 64 * MB)):
        library.mallopt(parameter, value)
    library.malloc_trim(ctypes.c_size_t(0))


def peak_memory(action: Action, device: torch.device) -> float:
    """The most memory that tensors of a call take at a time, in MB, beyond what is there before it."""
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        action()
        return (torch.cuda.max_memory_allocated(device) - before) / MB
    for _ in range(2):  # what the first profile sees freed may be from before
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            action()
    events = sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    return max(np.cumsum([event.nbytes() for event in events if event.name() == '[memory]']), default=0) / MB


def measure(args: argparse.Namespace, what: str, peaks: dict[str, float], case: tuple) -> dict:
    """Measures both sides of a case, prints a line, and returns the row of the JSON file."""
    config, precision, images, actions = case
    sides = dict(zip(['fast', 'reference'], actions[: 1 if args.against == 'none' else 2]))
    prepare = {}
    if what in ('step', 'sample') and args.device.type == 'cpu' and keep_freed_memory():
        prepare = dict(fast=keep_freed_memory, reference=return_freed_memory)
    warmup, is_counted = 0 if what in ('eval', 'metrics') else 2, what not in ('eval', 'metrics', 'data')
    seconds = time_in_turns(sides, prepare, args.rounds or dict(eval=1, metrics=3).get(what, 5), warmup)
    medians = {name: float(np.median(times[warmup:])) for name, times in seconds.items()}
    spreads = {name: np.subtract(*np.percentile(times[warmup:], [75, 25])) for name, times in seconds.items()}
    row = dict(what=what, config=config, device=args.device.type, precision=precision, reference_s=medians.get('reference'))
    row.update(fast_s=medians['fast'], ratio=None, images_per_s=images / medians['fast'])
    row.update(peak_memory_mb=None, peak_fraction=None)
    print(f'{what}, {config}, {args.device.type}, {precision}: {row["images_per_s"]:,.1f} images/s')
    if 'reference' in sides:
        row['ratio'] = medians['reference'] / medians['fast']
        print(f'    ratio {row["ratio"]:.2f}')
    for name in sides:
        line = f'    {name}: {medians[name]:.4g} ± {spreads[name]:.2g} s, first call {seconds[name][0]:.4g} s'
        if is_counted:
            memory = peak_memory(sides[name], args.device)
            row['peak_memory_mb'] = float(memory) if name == 'fast' else row['peak_memory_mb']
            line += f', memory {memory:,.0f} MB'
        print(line)
    if is_counted:
        with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
            sides['fast']()
        rate = counter.get_total_flops() / medians['fast']
        row['peak_fraction'] = rate / peaks[precision]
        print(f'    {rate / 1e9:,.1f} GFLOP/s, {row["peak_fraction"]:.1%} of the peak', flush=True)
        if args.profile:
            with profile() as profiler:
                sides['fast']()
            print(profiler.key_averages().table(sort_by=f'self_{args.device.type}_time_total', row_limit=args.profile))
    return row
