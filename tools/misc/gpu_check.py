#!/usr/bin/env python
"""Checks and measures on a GPU what depends on the device, most important first, within a given time.

A check that fails, dies or hangs does not end the others. gpu_check.json and gpu_check.md, written after each check, have the
results and all versions; gpu_check.log has the output of the checks. The exit code is 1 if a check has failed.
"""

import argparse
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from datetime import date
from functools import cache, partial
from pathlib import Path
from unittest import mock

import mmcv
import mmengine
import numpy as np
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils import collect_env
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from mmsagan import __version__
from mmsagan.apis import attention_maps, init_model, sample
from mmsagan.apis.experiment import train_from_config
from mmsagan.apis.export import FORMATS, export_generator
from mmsagan.apis.zoo import resolve_config
from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.cli.tool import run_tool, tool_parser
from mmsagan.datasets import EmbeddedMNIST
from mmsagan.engine.config import load_config
from mmsagan.errors import ConfigError
from mmsagan.evaluation import Evaluator, RealImages
from mmsagan.evaluation.images import deterministic_float32
from mmsagan.evaluation.inception_v3 import InceptionV3
from mmsagan.models import ConditionalGAN, SelfAttentionBlock
from mmsagan.models.layers.spectral_norm import run_power_iterations, spectral_norm_hook
from mmsagan.registry import MODELS
from mmsagan.utils.files import check_writable, write_output
from mmsagan.web.handlers import attention_panels, interpolation_frames, sample_grid

TOOLS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOOLS / 'misc'))
import benchmark_cases as bench  # noqa: E402
from check_runner import CHECKS, Setting, Skipped, check, markdown, run_all, within  # noqa: E402

bench.matmul_peak = cache(bench.matmul_peak)
DEMO = 'sagan_32_mnist_b32x1'
CIFAR, IMAGENET = 'sagan_32_woReLUinplace_cifar10_b64x1', 'sagan_128_woReLUinplace_imagenet1k_b64x4'
NARROW = {'model.generator.base_channels': 8, 'model.discriminator.base_channels': 8}  # on a CPU
EAGER, COMPILED = ('reference', 'fast', 'bfloat16'), {'compiled': {}, 'reduce-overhead': dict(mode='reduce-overhead')}
FLOAT16 = dict(wrapper='AmpOptimWrapper', optim_wrapper__loss_scale=dict(init_scale=512.0))  # no first updates are skipped
MANY = 10**6  # iterations, more than any training here runs


# ------------------------------------------------------------------------------------------------- the device, and equality


@check('device: versions', 5)
def check_versions(setting: Setting) -> dict:
    nccl = torch.cuda.nccl.version() if torch.distributed.is_nccl_available() else ()
    versions = dict(driver=collect_env.get_nvidia_driver_version(collect_env.run), cuda=torch.version.cuda)
    versions.update(cudnn=torch.backends.cudnn.version(), nccl='.'.join(map(str, nccl)), torch=torch.__version__)
    versions.update(mmengine=mmengine.__version__, mmcv=mmcv.__version__, mmsagan=__version__, python=sys.version.split()[0])
    name = f'CPU ({torch.backends.cpu.get_cpu_capability()}), {torch.get_num_threads()} threads'
    if not setting.small:
        gpu = torch.cuda.get_device_properties(0)
        name = f'{torch.cuda.device_count()} x {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, sm_{gpu.major}{gpu.minor}'
    return dict(device=name, versions=versions)


def demo_config(setting: Setting, **options) -> Config:
    """The demo's config; dots in the names of options are written as two underscores."""
    options = {key.replace('__', '.'): value for key, value in options.items()}
    return load_config(resolve_config(DEMO), {**(NARROW if setting.small else {}), **options})


def settled_gan(setting: Setting, fast: bool, layout: torch.memory_format = torch.preserve_format) -> ConditionalGAN:
    """The demo's GAN with converged spectral norms and attention that matters, always with the same weights."""
    gan, file = MODELS.build(dict(demo_config(setting).model, fast=fast)), setting.folder / 'settled.pth'
    if not file.is_file():
        gan.init_weights()
        for module in gan.modules():
            if isinstance(module, SelfAttentionBlock):
                nn.init.constant_(module.gamma, 0.7)
        run_power_iterations(gan, 300)
        torch.save(gan.state_dict(), file)
    gan.load_state_dict(torch.load(file))
    return gan.to(setting.device, memory_format=layout).train()


def updates(gan: ConditionalGAN, amp: bool = False) -> dict[str, Tensor]:
    """Losses and gradients of an update of D and of one of G, and samples."""
    torch.manual_seed(5)
    label, found = torch.arange(8, device=gan.device), {}
    images = 2 * torch.rand(8, 3, 32, 32, device=gan.device) - 1
    for name, network in (('discriminator', gan.discriminator), ('generator', gan.generator)):
        wrapper = OptimWrapper(torch.optim.SGD(network.parameters(), lr=0.0))
        wrapper.zero_grad = lambda **kwargs: None  # which keeps the gradients
        wrapper.optim_context = lambda model: torch.autocast(gan.device.type, torch.bfloat16, amp)
        is_generator = network is gan.generator
        found.update(gan.train_generator(8, wrapper) if is_generator else gan.train_discriminator(images, label, wrapper))
        found.update({f'{name}.{key}': weight.grad.clone() for key, weight in network.named_parameters()})
    with gan.inference_copy(amp):
        return dict(found, samples=gan.sample(label=label, num_samples=8))


def distance(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The norm of all differences relative to that of what is expected."""
    assert found.keys() == expected.keys()
    both = [torch.cat([values[name].float().flatten().cpu() for name in expected]) for values in (found, expected)]
    return (torch.dist(*both) / both[1].norm()).item()


@check('equality: channels-last', 10, ours=(False, torch.channels_last), others=(False, torch.contiguous_format))
@check('equality: fast and plain layers', 10, ours=(True,), others=(False,))
def compare_updates(setting: Setting, ours: tuple, others: tuple) -> dict:
    return within(1e-4, distance=distance(*(updates(settled_gan(setting, *options)) for options in (ours, others))))


@check('equality: bfloat16', 10)
def compare_bfloat16(setting: Setting) -> dict:
    """The fast layers are as close to float32 as the plain ones are."""
    exact, plain, fast = (updates(settled_gan(setting, fast), amp) for fast, amp in ((0, False), (0, True), (1, True)))
    of_plain = distance(plain, exact)
    return dict(within(1.5 * of_plain, fast=distance(fast, exact)), plain=of_plain)


@check('equality: fused attention', 5)
def compare_attention(setting: Setting) -> dict:
    figures = {}
    for size in (16, 32, 64):
        block = SelfAttentionBlock(64).eval()
        run_power_iterations(block, 50)
        block.to(setting.device, memory_format=torch.channels_last)
        x, found = (
            torch.randn(2, 64, size, size, device=setting.device).to(memory_format=torch.channels_last).requires_grad_(),
            [],
        )
        for out in (block.attend_fused(x), block.attend(x)):
            of = [x, block.theta.weight_orig, block.phi.weight_orig, block.g.weight_orig]
            found.append(dict(enumerate([out, *torch.autograd.grad(out.square().mean(), of)])))
        figures[f'feat{size}'] = distance(*found)
    return within(1e-4, **figures)


@check('equality: checkpoints of the references', 10)
def compare_fixtures(setting: Setting) -> dict:
    figures = {}
    for folder in sorted(path.parent for path in setting.fixtures.glob('*/expected.npz')):
        is_bgr, arrays = folder.name.startswith('mmagic'), np.load(folder / 'expected.npz')
        gan = init_model(None, next(folder.glob('checkpoint.pth' if is_bgr else 'model=G-*.pth')), setting.device)
        noise, label, images, logits = (
            torch.from_numpy(arrays[k]).to(setting.device) for k in ('z', 'labels', 'images', 'logits')
        )
        images = images.flip(1) if is_bgr else images
        with torch.no_grad(), deterministic_float32():
            torch.testing.assert_close(gan.discriminator(images, label)[:, 0], logits, rtol=1e-4, atol=1e-5)
            figures[folder.name] = (gan.generator(noise, label) - images).abs().max().item()
    if not figures:
        raise Skipped(f'no checkpoints in {setting.fixtures}; name their folder with --fixtures')
    return within(1e-4, **figures)


@check('equality: samples of one seed', 5)
def compare_samples(setting: Setting) -> dict:
    ours, others = (sample(settled_gan(setting, True).to(device), 64, seed=3).int() for device in (setting.device, 'cpu'))
    within(1, grey_levels=(ours - others).abs().max())
    return within(0.01, share_of_values_that_differ=(ours != others).float().mean().item())


# ---------------------------------------------------------------------------------------------------------------- training


def training_config(setting: Setting, name: str, iterations: int, wrapper: str = 'OptimWrapper', **options) -> Config:
    """The demo's config without what is not checked here."""
    defaults = dict(train_cfg__max_iters=iterations, val_evaluator=None, custom_hooks=[], log_processor__window_size=1)
    defaults.update(default_hooks__logger__interval=1, default_hooks__checkpoint__interval=MANY)
    cfg = demo_config(setting, **{**defaults, 'train_dataloader__batch_size': 8 if setting.small else 64, **options})
    del cfg.default_hooks['summary'], cfg.optim_wrapper['dtype']
    cfg.optim_wrapper.type = wrapper
    cfg.update(work_dir=str(setting.folder / name), launcher='none', experiment_name=f'{name}-{time.time_ns()}')
    return cfg


def start_training(cfg: Config, *launcher: str) -> subprocess.Popen:
    """Starts tools/train.py, in Python or by what Python is to run in its place."""
    cfg.dump(f'{cfg.work_dir}.json')
    command = [sys.executable, *launcher, str(TOOLS / 'train.py'), f'{cfg.work_dir}.json', '--work-dir', cfg.work_dir]
    command += ['--launcher', 'pytorch'] if 'torch.distributed.run' in launcher else []
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def end_training(process: subprocess.Popen, expected: int) -> str:
    """Waits for the end of a training, with an exit code; returns what it has said on stderr."""
    try:
        _, said = process.communicate(timeout=180)
    finally:
        process.kill()
    print(said, flush=True)
    assert process.returncode == expected, f'exit code {process.returncode}, not {expected}: {said[-300:]}'
    return said


def losses_of(cfg: Config, launcher: Sequence[str] = ()) -> np.ndarray:
    """D's losses by iteration, of a training that has been done before, or is done now."""
    path = Path(cfg.work_dir, f'iter_{cfg.train_cfg.max_iters}.pth')
    if not path.is_file():
        end_training(start_training(cfg, *launcher), 0) if launcher else train_from_config(cfg.copy())
    losses = np.asarray(load_checkpoint_file(path)['message_hub']['log_scalars']['train/loss_disc'].data[0])
    assert len(losses) >= cfg.train_cfg.max_iters - 5 and np.isfinite(losses).all(), f'losses {losses}'  # some may be skipped
    return losses


@check('training: reduce-overhead', 90, True, 'CUDA graphs', tolerance=0.02, model__compile_cfg=COMPILED['reduce-overhead'])
@check('training: compiled', 90, True, 'compiling within seconds', tolerance=0.02, model__compile_cfg={})
@check('training: float16 with loss scaling', 10, False, 'float16', tolerance=0.1, **FLOAT16)
@check('training: TF32', 10, False, 'TF32', tolerance=0.02, tf32=True)
@check('training: bfloat16', 20, tolerance=0.1, wrapper='BFloat16OptimWrapper')
def compare_trainings(setting: Setting, tolerance: float, tf32: bool = False, launcher: Sequence[str] = (), **options) -> dict:
    """Compares losses with those in float32: the first closely, the mean roughly, since trainings diverge."""
    iterations = 6 if setting.small else 30
    expected = losses_of(training_config(setting, 'float32', iterations))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    losses = losses_of(training_config(setting, f'compared-{time.time_ns()}', iterations, **options), launcher)
    within(0.15 * expected.mean(), difference_of_means=abs(losses.mean() - expected.mean()))
    return dict(within(tolerance, first_difference=abs(losses[0] - expected[0])), mean=losses.mean(), float32=expected.mean())


@check('training: DDP', 30)
def check_ddp(setting: Setting) -> dict:
    count = max(1, min(2, torch.cuda.device_count()))
    launcher = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={count}']
    tolerance = 0.02 if count == 1 else 0.3  # its own process has PyTorch's default, TF32 in convolutions
    return dict(compare_trainings(setting, tolerance, launcher=launcher), processes=count)


@check('training: SyncBN', 10, False, 'SyncBN')
def check_sync_bn(setting: Setting) -> dict:
    expected = updates(settled_gan(setting, True))
    torch.distributed.init_process_group('nccl', f'file://{setting.folder}/{time.time_ns()}', rank=0, world_size=1)
    try:
        gan = settled_gan(setting, True)
        assert any(isinstance(module, nn.SyncBatchNorm) for module in gan.modules())
        return within(1e-4, distance=distance(updates(gan), expected))
    finally:
        torch.distributed.destroy_process_group()


@check('training: exact resume', 20)
def check_resume(setting: Setting) -> dict:
    for name, iterations, resume in (('whole', 8, False), ('parts', 4, False), ('parts', 8, 'auto')):
        train_from_config(training_config(setting, name, iterations, randomness__deterministic=True, resume=resume))
    contents = [load_checkpoint_file(setting.folder / name / 'iter_8.pth') for name in ('whole', 'parts')]
    leaves = [tree_leaves([content['state_dict'], content['optimizer']]) for content in contents]
    same = [torch.equal(one, two) if isinstance(one, Tensor) else one == two for one, two in zip(*leaves, strict=True)]
    return dict(within(0, values_that_differ=same.count(False)), values=len(same))


@check('training: SIGTERM', 40)
def check_sigterm(setting: Setting) -> dict:
    cfg = training_config(setting, 'sigterm', MANY)
    process, until = start_training(cfg), time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        if any(path.stat().st_size for path in Path(cfg.work_dir).glob('*/*/scalars.json')):
            break  # an iteration is done
        time.sleep(0.1)
    process.terminate()
    end_training(process, 75)
    saved = max(int(path.stem.removeprefix('iter_')) for path in Path(cfg.work_dir).glob('iter_*.pth'))
    train_from_config(training_config(setting, 'sigterm', saved + 2, resume='auto'))
    return dict(saved_at=saved, resumed_to=saved + 2)


@check('training: out of memory', 20, False, 'a limit of the memory')
def check_out_of_memory(setting: Setting) -> dict:
    share = 300 * 2**20 / torch.cuda.get_device_properties(0).total_memory
    limited = f'import runpy, sys, torch; torch.cuda.set_per_process_memory_fraction({share}); sys.argv.pop(0); '
    limited += 'runpy.run_path(sys.argv[0], run_name="__main__")'
    cfg = training_config(setting, 'memory', 30, train_dataloader__batch_size=2000)
    said = end_training(start_training(cfg, '-c', limited), ConfigError.exit_code)
    assert 'Traceback' not in said and said.count('error: ') == 1 and 'batch_size' in said, f'not one message: {said[-500:]}'
    return dict(message=said.strip().splitlines()[-1])


# -------------------------------------------------------------------------------------------------------------- evaluation


def demo_gan(setting: Setting, device: str) -> ConditionalGAN:
    """The demo after 100 iterations, trained on the device at first use."""
    cfg = training_config(setting, 'demo', 6 if setting.small else 100)
    losses_of(cfg)
    return init_model(demo_config(setting), Path(cfg.work_dir, f'iter_{cfg.train_cfg.max_iters}.pth'), device)


def scores_of(gan: ConditionalGAN, count: int, batch_size: int = 64) -> dict:
    """IS-digits and FID-digits of samples."""
    common = dict(fake_nums=count, inception_style='digits')
    metrics = [dict(common, type='InceptionScore', resize=False), dict(common, type='FrechetInceptionDistance')]
    real = RealImages(EmbeddedMNIST(split='test', pipeline=[dict(type='PackInputs')]))
    return Evaluator(metrics).evaluate_model(gan, real, batch_size)


@check('evaluation: IS-digits and FID-digits', 30)
def compare_scores(setting: Setting) -> dict:
    ours, others = (  # batch sizes must not matter
        scores_of(demo_gan(setting, device), 200 if setting.small else 1000, batch_size)
        for device, batch_size in ((setting.device, 64), ('cpu', 50))
    )
    return dict(ours, **within(1e-4, relative_difference=max(abs(ours[name] / others[name] - 1) for name in others)))


@check('evaluation: memory does not grow', 20)
def check_memory(setting: Setting) -> dict:
    gan, few = demo_gan(setting, setting.device), 128 if setting.small else 1000
    few_mb, many_mb = (bench.peak_memory(partial(scores_of, gan, n), torch.device(setting.device)) for n in (few, 4 * few))
    return dict(within(1.1 * few_mb + 2, many_mb=float(many_mb)), few_mb=float(few_mb))


@check('evaluation: Inception', 15)
def compare_inception(setting: Setting) -> dict:
    network, images = InceptionV3(), torch.rand(1 if setting.small else 8, 3, 299, 299) * 2 - 1
    with torch.no_grad(), deterministic_float32():
        expected = dict(enumerate(network(images)))
        return within(1e-4, distance=distance(dict(enumerate(network.to(setting.device)(images.to(setting.device)))), expected))


# ------------------------------------------------------------------------------------------------------------------- speed


def use_stock_spectral_norm(gan: ConditionalGAN) -> None:
    """Replaces spectral norms by those of torch; the parameters stay the same objects."""
    for network in (gan.generator, gan.discriminator):
        layers = [(layer, hook) for layer in network.modules() if (hook := spectral_norm_hook(layer))]
        for module in (network, *(layer for layer, _ in layers)):
            module._forward_pre_hooks.clear()
            module._forward_hooks.clear()
        for layer, hook in layers:
            weight = layer.weight_orig
            for name in ('weight', 'weight_orig', 'weight_u', 'weight_v'):
                delattr(layer, name)
            layer.weight = weight
            nn.utils.spectral_norm(layer, eps=hook.eps)


def step_of(setting: Setting, size: int, kind: str) -> partial:
    """An update of D and one of G by benchmark.py: the reference, fast, or fast in bfloat16, also compiled."""
    options, networks = dict(NARROW) if setting.small else {}, ('model.generator', 'model.discriminator')
    if size == 64:
        options.update(dict.fromkeys(('model.generator.output_scale', 'model.discriminator.input_scale'), 64))
    if size > 32 and setting.small:
        options.update({f'{network}.channels_cfg': [1] * int(math.log2(size // 4)) for network in networks})
        options.update({f'{network}.attention_after_nth_block': after for network, after in zip(networks, (1, 3))})
    cfg = load_config(resolve_config(CIFAR if size == 32 else IMAGENET), options)
    cfg.model.compile_cfg = COMPILED.get(kind)
    args = argparse.Namespace(device=torch.device(setting.device), batch_size=2 if setting.small else 64)
    args.precision = ['fp32' if kind in ('reference', 'fast') else 'bf16']
    args.against = 'reference' if kind == 'reference' else 'none'
    action = next(bench.training_steps(args, [cfg], setting.folder))[3][-1]
    if kind == 'reference':
        use_stock_spectral_norm(action.args[0])
    return action


def time_in_turns(setting: Setting, actions: dict[str, bench.Action]) -> dict[str, float]:
    """Seconds of each action; on a GPU of several in a row, between which nobody waits."""
    times, rounds, warmup = (1, 1, 1) if setting.small else (5, 7, 2)
    sides = {name: partial(lambda action: [action() for _ in range(times)], action) for name, action in actions.items()}
    seconds = bench.time_in_turns(sides, {}, rounds, warmup)
    return {name: float(np.median(each[warmup:])) / times for name, each in seconds.items()}


def idle_share(kernels: Iterable[tuple[float, float]], duration: float) -> float:
    """The share of a duration in which no kernel runs, of kernels given by their start and end."""
    busy, until = 0.0, -math.inf
    for start, end in sorted(kernels):
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return max(0.0, 1 - busy / duration)


def profile_kernels(action: bench.Action, seconds: float) -> dict:
    """Counts an action's kernels, and the GPU's idle share of the seconds that it takes without a profiler."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        action()
        torch.cuda.synchronize()
    events = [e for e in profiler.profiler.kineto_results.events() if e.device_type() == torch.autograd.DeviceType.CUDA]
    events = [event for event in events if not event.is_user_annotation()]
    kernels = sum(not event.name().startswith(('Memcpy', 'Memset')) for event in events)
    idle = idle_share(((e.start_ns(), e.end_ns()) for e in events), 1e9 * seconds)
    return dict(kernels=kernels, idle_share=idle) if events else {}  # none without the permission to profile


@check('speed: compiled, 64x64', 120, True, 'compiling within seconds', size=64, kinds=['bfloat16', *COMPILED])
@check('speed: compiled, 128x128', 120, True, 'compiling within seconds', size=128, kinds=['bfloat16', *COMPILED])
@check('speed: compiled, 32x32', 100, True, 'compiling within seconds', size=32, kinds=['bfloat16', *COMPILED])
@check('speed: steps, 64x64', 30, size=64, kinds=EAGER)
@check('speed: steps, 128x128', 40, size=128, kinds=EAGER)
@check('speed: steps, 32x32', 30, size=32, kinds=EAGER)
def measure_steps(setting: Setting, size: int, kinds: Sequence[str]) -> dict:
    """Returns how many times as fast as the first kind the others are. The peak of float32 kinds is that of TF32."""
    torch.backends.cudnn.benchmark = torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    device, rows, flops = torch.device(setting.device), {}, 0
    peaks = {dtype: bench.matmul_peak(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    torch.backends.cuda.matmul.allow_tf32 = False  # PyTorch's default
    actions = {kind: step_of(setting, size, kind) for kind in kinds}
    for kind, seconds in time_in_turns(setting, actions).items():
        if kind not in COMPILED:  # which do the operations of the kind before them
            with FlopCounterMode(display=False, custom_mapping=bench.FORMULAS) as counter:
                actions[kind]()
            flops = counter.get_total_flops()
        peak = peaks[torch.float32 if kind in ('reference', 'fast') else torch.bfloat16]
        row = dict(ms=1e3 * seconds, images_per_s=(2 if setting.small else 64) / seconds, tflop_per_s=flops / seconds / 1e12)
        row.update(peak_share=flops / seconds / peak, memory_mb=float(bench.peak_memory(actions[kind], device)))
        rows[kind] = row if setting.small else dict(row, **profile_kernels(actions[kind], seconds))
    return dict({kind: rows[kinds[0]]['ms'] / rows[kind]['ms'] for kind in kinds[1:]}, rows=rows)


@check('speed: gain by each fast layer, 128x128', 40, size=128)
@check('speed: gain by each fast layer, 32x32', 30, size=32)
def measure_layers(setting: Setting, size: int) -> dict:
    """Returns how many times as long the fast step in bfloat16 takes without one kind of layer, which is plain then."""
    torch.backends.cudnn.benchmark = True
    with mock.patch.object(ConditionalGAN, 'memory_format', lambda gan, network: torch.contiguous_format):
        contiguous = step_of(setting, size, 'bfloat16')
    contiguous.args[0].memory_format = lambda network: torch.contiguous_format
    action = step_of(setting, size, 'bfloat16')
    gan = action.args[0]
    gan.memory_format = lambda network: torch.channels_last  # also without D's joint pass, which is the GAN's own fast way
    layers = [(type(module).__name__, module) for module in gan.modules() if hasattr(module, 'fast')]

    def step_without(kind: str) -> None:
        for name, module in layers:
            module.fast = name != kind
        action()

    sides = {kind: partial(step_without, kind) for kind in ['nothing', *dict.fromkeys(name for name, _ in layers)]}
    seconds = time_in_turns(setting, dict(sides, channels_last=contiguous))
    return {kind: each / seconds['nothing'] for kind, each in seconds.items() if kind != 'nothing'}


# --------------------------------------------------------------------------------------------------------- what models do


@check('use: sampling', 20)
def measure_sampling(setting: Setting) -> dict:
    """Images per second of the config of CIFAR-10, or on a CPU of the demo."""
    gan, count, figures = init_model(DEMO if setting.small else CIFAR, None, setting.device), 8 if setting.small else 64, {}
    for name, amp in (('float32', False), ('bfloat16', True)):
        with gan.inference_copy(amp):
            assert gan.sample(num_samples=count).isfinite().all()
            figures[name] = count / time_in_turns(setting, {name: partial(gan.sample, num_samples=count)})[name]
    return figures


@check('use: attention maps', 10)
def compare_attention_maps(setting: Setting) -> dict:
    gans = [demo_gan(setting, device) for device in (setting.device, 'cpu')]
    ours, others = (attention_maps(gan, [(16, 16), (3, 20)], labels=[0, 1, 2, 3], seed=0) for gan in gans)
    return within(1e-3, distance=distance(ours.maps, others.maps))


@check('use: web page', 10)
def compare_pages(setting: Setting) -> dict:
    pages = []
    for gan in (demo_gan(setting, device) for device in (setting.device, 'cpu')):
        images, grid = sample_grid(gan, [3, 5], 2, seed=1)
        panels = [torch.from_numpy(panel) for panel, _ in attention_panels(gan, grid, 1, 16, 16)]
        pages.append([images, interpolation_frames(gan, (0, 1), (3, 5)), *panels])
    return within(3, grey_levels=max((ours.int() - other.int()).abs().max().item() for ours, other in zip(*pages)))


@check('use: export to ONNX', 30, format='onnx')
@check('use: export to pt2', 20, format='pt2')
def check_export(setting: Setting, format: str) -> dict:
    if missing := [package for package in FORMATS[format] if importlib.util.find_spec(package) is None]:
        raise Skipped(f'{", ".join(missing)} is not installed: pip install "mmsagan[export]"')
    exported = export_generator(demo_gan(setting, setting.device), setting.folder / f'model.{format}', format)
    return dict(difference=exported.max_difference)


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, '--out work_dirs/gpu_check', '--only training equality --minutes 3', '--device cpu')
    parser.add_argument('--minutes', type=float, default=8, metavar='N', help='time for all of it (default: %(default)s)')
    parser.add_argument('--out', type=Path, default=Path('gpu_check'), metavar='DIR', help='default: %(default)s')
    help = 'cpu runs the checks that do not need CUDA, with small networks (default: %(default)s)'
    parser.add_argument('--device', choices=['cuda', 'cpu'], default='cuda', help=help)
    fixtures = TOOLS.parent / 'tests' / 'data' / 'fixtures'
    help = "checkpoints of the references, each in a folder with expected.npz (default: those of this repository's tests)"
    parser.add_argument('--fixtures', type=Path, default=fixtures, metavar='DIR', help=help)
    help = f'only checks whose names begin so: {", ".join(dict.fromkeys(name.split(":")[0] for name in CHECKS))}'
    parser.add_argument('--only', nargs='+', default=[''], metavar='NAME', help=help)
    return parser.parse_args()


def main() -> int:
    args, started = parse_args(), time.time()
    if args.device == 'cpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
    elif not torch.cuda.is_available():
        raise ConfigError('PyTorch finds no GPU; --device cpu runs the checks that need none')
    os.environ.update(CUBLAS_WORKSPACE_CONFIG=':4096:8', KINETO_LOG_LEVEL='99')  # for exact resuming; a quiet profiler
    check_writable(args.out / 'gpu_check.json')
    args.out.mkdir(parents=True, exist_ok=True)
    names = [name for name in CHECKS if name.startswith(('device', *args.only))]
    names.sort(key=lambda name: CHECKS[name].later)
    report: dict = dict(date=str(date.today()), device='unknown device', versions={}, checks=[])
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        setting = Setting(args.device, Path(folder), args.fixtures.resolve())
        for row in run_all(names, setting, str(args.out.resolve() / 'gpu_check.log'), started + 60 * args.minutes):
            report['checks'].append(row)
            if row['check'] == 'device: versions':
                report.update(row.get('figures', {}))
            print(f'{row["check"]:<45} {row["result"]:<8} {row["figure"]}', flush=True)
            write_output(args.out / 'gpu_check.json', json.dumps(report, indent=2, default=float).encode() + b'\n')
            write_output(args.out / 'gpu_check.md', markdown(report).encode())
    results = [row['result'] for row in report['checks']]
    counts = ', '.join(f'{results.count(result)} {result}' for result in ('passed', 'failed', 'skipped'))
    print(f'{counts}; written to {args.out / "gpu_check.json"} and .md after {time.time() - started:.0f} s')
    return int('failed' in results)


if __name__ == '__main__':
    run_tool(main)
