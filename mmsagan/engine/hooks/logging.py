"""What a training says about itself: the values it logs, the log line and the summary page."""

import math
import os
import platform
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import torch
from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.hooks import RuntimeInfoHook as MMEngineRuntimeInfoHook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import LogProcessor as MMEngineLogProcessor
from torch import Tensor

from mmsagan import __version__
from mmsagan.checkpoints.io import LAST_CHECKPOINT
from mmsagan.engine.distributed import device_name
from mmsagan.errors import DataError, TrainingInterrupted
from mmsagan.registry import HOOKS, LOG_PROCESSORS
from mmsagan.utils.files import write_atomically
from mmsagan.visualization.curves import HELD_OUT, Curve, curves_figure, is_result, read_curves
from mmsagan.visualization.figures import to_bytes

SUMMARY, CURVES = 'summary.md', 'curves.png'
_MAX_ROWS = 10  # evaluations in the page
_MAX_PANELS = 6  # of curves


def flush(runner) -> None:
    """Makes the hooks read what they have left on the device: before it is logged, saved or followed by an evaluation."""
    for hook in runner.hooks:
        if hasattr(hook, 'flush'):
            hook.flush(runner)


def get_optim_wrappers(runner) -> dict:
    """Returns the runner's optimizer wrappers by the network's name, or a single one as that of the ``model``."""
    wrappers = runner.optim_wrapper
    return dict(wrappers.items()) if isinstance(wrappers, OptimWrapperDict) else dict(model=wrappers)


@HOOKS.register_module()
class RuntimeInfoHook(MMEngineRuntimeInfoHook):
    """MMEngine's hook of the same name, which moves losses from the device when they are logged, not in each iteration.

    Values that are not finite are left out where steps are skipped because of them, since they would spoil the means. After 25
    iterations, of which it measures 20, a message says how long the training will take.
    """

    def __init__(self) -> None:
        self._outputs: list[tuple[str, Tensor | float]] = []

    def before_train(self, runner) -> None:
        super().before_train(runner)
        self._measured_from = runner.iter + 5  # the first ones take longer

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs: dict | None = None) -> None:
        self._outputs += (outputs or {}).items()
        for wrapper in get_optim_wrappers(runner).values():
            if getattr(wrapper, 'grad_norm', None) is not None:
                self._outputs.append(('grad_norm', wrapper.grad_norm))
                wrapper.grad_norm = None  # the next iteration may not update this network
        if not isinstance(runner.log_processor, LogProcessor):  # which flushes
            self.flush(runner)
        if runner.iter == self._measured_from:
            self._start = time.monotonic()
        elif runner.iter == self._measured_from + 20 < runner.max_iters - 1:
            left = runner.max_iters - runner.iter - 1
            duration = timedelta(seconds=round((time.monotonic() - self._start) / 20 * left))
            runner.logger.info(f'the {left} iterations from here on take about {duration}, evaluations not counted')

    def before_val(self, runner) -> None:
        flush(runner)
        super().before_val(runner)

    def after_train(self, runner) -> None:
        flush(runner)
        super().after_train(runner)

    def flush(self, runner) -> None:
        outputs, self._outputs = self._outputs, []
        if not outputs:
            return
        skips = all(hasattr(wrapper, 'skipped') for wrapper in get_optim_wrappers(runner).values())
        device = next((value.device for _, value in outputs if isinstance(value, Tensor)), None)
        values = torch.stack([torch.as_tensor(value, dtype=torch.float32, device=device).detach() for _, value in outputs])
        for (name, _), value in zip(outputs, values.tolist()):
            if math.isfinite(value) or not skips:
                runner.message_hub.update_scalar(f'train/{name}', value)


@LOG_PROCESSORS.register_module()
class LogProcessor(MMEngineLogProcessor):
    """MMEngine's log processor with a shorter line for training iterations.

    The line has losses, mean logits, speed, memory and the time left. The numbers that it adds to MMEngine's,
    ``images_per_second`` and on a CPU ``memory`` (MB), are recorded as well. Trainings that count epochs keep MMEngine's line.
    """

    def get_log_after_iter(self, runner, batch_idx: int, mode: str) -> tuple[dict, str]:
        flush(runner)
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        if mode != 'train' or self.by_epoch:
            return tag, line
        values = {name.removeprefix('train/'): value for name, value in tag.items()}
        statm = Path('/proc/self/statm')
        if 'memory' not in values and statm.exists():  # MMEngine's own is that of a GPU
            tag['memory'] = values['memory'] = int(statm.read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 2**20
        parts = [f'[{runner.iter + 1:{len(str(runner.max_iters))}}/{runner.max_iters}]']
        own_losses = [name for name in values if re.match(r'loss_(?!(disc|gen)(_|$))', name)]  # of a model other than ours
        for title, names in (
            ('loss', dict(loss_disc='D', loss_gen='G', **{name: name[5:] for name in own_losses})),
            ('logits', dict(logits_real='real', logits_fake='fake')),
        ):
            found = [f'{short} {values[name]:.3f}' for name, short in names.items() if name in values]
            parts += [' '.join([title, *found])] if found else []
        seconds = values.get('time')
        batch_size = getattr(runner.train_dataloader.batch_sampler, 'batch_size', None)
        if seconds and batch_size:
            speed = tag['images_per_second'] = batch_size * get_world_size() / seconds
            parts.append(f'{speed:.0f} images/s' if speed >= 100 else f'{speed:.3g} images/s')
        parts += [f'{values["memory"]:.0f} MB'] if 'memory' in values else []
        if 'eta' in runner.message_hub.runtime_info:
            parts.append(f'eta {timedelta(seconds=int(runner.message_hub.get_info("eta")))}')
        if values.get('skipped_steps'):
            parts.append(f'skipped updates {values["skipped_steps"]:.0f}')
        return tag, '  '.join(parts)


@HOOKS.register_module()
class SummaryHook(Hook):
    """Writes a page about the training, ``summary.md``, with ``curves.png`` into the work dir.

    The page has the scores, the best checkpoints, the newest pictures, what the config changes of its bases, and the machine.
    It is written after the first iteration and every ``interval`` iterations, and with the curves after evaluations and last.
    """

    priority = 'LOWEST'

    def __init__(self, interval: int = 1000):
        self.interval = interval
        self._is_begun = False
        self._foreign: set[tuple[Path, int]] = set()

    def before_run(self, runner) -> None:
        """Notes what an earlier run has left in the folder, unless this one continues it."""
        work_dir = Path(runner.work_dir)
        files = [work_dir / LAST_CHECKPOINT, work_dir / CURVES, *work_dir.glob('samples/*_*.png')]
        self._foreign = {(path, path.stat().st_mtime_ns) for path in files if path.is_file() and not runner._resume}

    def _is_own(self, path: Path) -> bool:
        return path.is_file() and (path, path.stat().st_mtime_ns) not in self._foreign

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if not self._is_begun or self.every_n_train_iters(runner, self.interval):
            self._is_begun = True
            self.write(runner, f'**Training**: iteration {runner.iter + 1} of {runner.max_iters}', with_curves=False)

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        self.write(runner, f'**Training**: iteration {runner.iter} of {runner.max_iters}')

    def after_train(self, runner) -> None:
        self.write(runner, f'**Finished**: {runner.iter} iterations')

    def on_exception(self, runner, error: BaseException) -> None:
        """Writes why the training has ended early, unless it has not begun."""
        if self._is_begun:
            state = 'Stopped' if isinstance(error, TrainingInterrupted) else 'Failed'
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            self.write(runner, f'**{state}** at iteration {runner.iter} of {runner.max_iters}: {reason}')

    @master_only
    def write(self, runner, state: str, with_curves: bool = True) -> None:
        """Writes the page, which begins with ``state``, and the curves; a file that cannot be written is a warning."""
        work_dir = Path(runner.work_dir)
        try:
            curves = read_curves(work_dir if runner._resume else runner.log_dir)
        except (DataError, OSError):  # none yet, or on a disk that is gone
            curves = {}
        for name in (CURVES, SUMMARY) if curves and with_curves else (SUMMARY,):  # the page links to the curves that are there
            try:
                data = draw_curves(curves) if name == CURVES else self.page(runner, state, curves)
                write_atomically(work_dir / name, data)
            except OSError as error:
                runner.logger.warning(f'{name} cannot be written, and the training goes on: {error}')

    def page(self, runner, state: str, curves: Mapping[str, Curve]) -> bytes:
        """The page in Markdown, encoded."""
        work_dir = Path(runner.work_dir)
        name = Path(runner.cfg.filename).stem if runner.cfg.filename else work_dir.resolve().name
        parts = [f'# {name}', f'{state}. As of {time.strftime("%Y-%m-%d %H:%M:%S")}.']

        best = [[_link(path, work_dir), f'{score:.4f}'] for path, score in best_checkpoints(runner).items()]
        if best:
            parts += ['## Scores', _table(['best checkpoint', 'score'], best)]
        results = [name for name in curves if is_result(name) and not name.startswith(HELD_OUT)]
        if results:
            columns = [dict(zip(*curves[name])) for name in results]
            steps = sorted(set().union(*columns))[-_MAX_ROWS:]
            rows = [[f'{step:.0f}', *(f'{column[step]:.4f}' if step in column else '' for column in columns)] for step in steps]
            real = [f'{curves[HELD_OUT + name][1][-1]:.4f}' if HELD_OUT + name in curves else '' for name in results]
            parts.append(_table(['iteration', *results], [*rows, *([['held-out real', *real]] if any(real) else [])]))
        if curves and self._is_own(work_dir / CURVES):
            parts.append(f'![curves]({CURVES})')

        pictures: dict[str, tuple[int, Path]] = {}
        for path in (work_dir / 'samples').glob('*_*.png'):
            name, _, step = path.stem.rpartition('_')
            is_newer = step.isdecimal() and pictures.get(name, (0,))[0] < int(step) <= runner.iter + 1
            if is_newer and self._is_own(path):
                pictures[name] = (int(step), path)
        for name, (step, path) in sorted(pictures.items()):
            parts += [f'## {name}, iteration {step}', '!' + _link(path, work_dir)]

        changes = getattr(runner, 'config_changes', None) or {}
        if changes:
            rows = [[f'`{text}`' if text else '' for text in (key, *pair)] for key, pair in changes.items()]
            parts += ['## Config', _table(['key', 'inherited', 'here'], rows)]
        pointer = work_dir / LAST_CHECKPOINT
        files = [Path(os.fsdecode(pointer.read_bytes()).strip())] if self._is_own(pointer) else []
        files += [Path(runner.log_dir, f'{runner.timestamp}.log'), Path(runner.log_dir, 'vis_data/scalars.json')]
        parts += ['## Files', '\n'.join(f'* {_link(path, work_dir)}' for path in files if path.exists())]
        versions = f'Python {platform.python_version()}, PyTorch {torch.__version__}, MMSAGAN {__version__}'
        parts += ['## Machine', f'{device_name()}; {get_world_size()} processes; {versions}; seed {runner.seed}.']
        return ('\n\n'.join(parts) + '\n').encode(errors='backslashreplace')


def best_checkpoints(runner) -> dict[Path, float]:
    """The best checkpoints of this run, not of an earlier one in its folder, and their scores."""
    info = runner.message_hub.runtime_info
    paths = {key: Path(path) for key, path in info.items() if key.startswith('best_ckpt') and path}
    return {path: info[key.replace('ckpt', 'score')] for key, path in paths.items() if path.is_file()}


def draw_curves(curves: Mapping[str, Curve]) -> bytes:
    """Draws results, losses and logits as PNG."""
    panels: dict[str, dict[str, str]] = {}  # by title and label, the name of a curve
    for name in curves:
        if is_result(name) and not name.startswith(HELD_OUT) and not name.endswith('_std') and len(panels) < _MAX_PANELS - 2:
            panels[name] = {'samples': name, 'held-out real': HELD_OUT + name}
    panels['losses'] = dict(D='loss_disc', G='loss_gen')
    panels['logits'] = dict(real='logits_real', fake='logits_fake')
    drawn = {}
    for title, names in panels.items():
        drawn[title] = {label: curves[name] for label, name in names.items() if name in curves}
    smooth = {title: max([1, *(len(steps) // 50 for steps, _ in drawn[title].values())]) for title in ('losses', 'logits')}
    return to_bytes(curves_figure({title: lines for title, lines in drawn.items() if lines}, smooth), 'png')


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (header, ['---'] * len(header), *rows)
    return '\n'.join('| ' + ' | '.join(cell.replace('|', '\\|') for cell in line) + ' |' for line in lines)


def _link(path: Path, folder: Path) -> str:
    target = os.path.relpath(path, folder)
    return f'[{target}]({quote(os.fsencode(target))})'
