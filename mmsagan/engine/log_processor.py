"""The line that says how a training is getting on."""

import re
from collections.abc import Mapping

from mmengine.device import is_musa_available
from mmengine.runner import LogProcessor as MMEngineLogProcessor

from mmsagan.evaluation.evaluator import HELD_OUT
from mmsagan.registry import LOG_PROCESSORS
from mmsagan.utils.memory import memory_in_use
from mmsagan.utils.text import decimal, duration, memory_size, rate

_LOSSES = {'loss_disc': 'D', 'loss_gen': 'G'}
_LOGITS = {'logits_real': 'real', 'logits_fake': 'fake'}
_WAITING = 0.1  # the share of the time waiting for data from which on it is worth a word


class IterationLine(str):
    """The log's line of an iteration or a batch of an evaluation; the type tells it from other lines."""


@LOG_PROCESSORS.register_module()
class LogProcessor(MMEngineLogProcessor):
    """MMEngine's processor of the same name, with lines that can be read at a glance.

    A line of a training iteration has what :func:`iteration_numbers` gives, one of an evaluation its results. All that
    MMEngine's would have, and ``images_per_second`` and the ``memory`` of a CPU training, goes to the visualizer, and so to
    ``scalars.json``. Trainings that count epochs keep MMEngine's lines.

    Args:
        *args: See ``mmengine.runner.LogProcessor``.
        **kwargs: See there.
    """

    def get_log_after_iter(self, runner, batch_idx: int, mode: str) -> tuple[dict, str]:
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        if mode != 'train':
            return tag, IterationLine(line)
        speed = runner.message_hub.get_info('images_per_second', None)
        memory = tag.get('memory', memory_in_use())
        tag.update({key: value for key, value in (('images_per_second', speed), ('memory', memory)) if value is not None})
        if self.by_epoch:
            return tag, IterationLine(line)
        values = {name.removeprefix('train/'): value for name, value in tag.items()}
        numbers = iteration_numbers(values, runner.message_hub.get_info('eta', None))
        place = f'[{runner.iter + 1:{len(str(runner.max_iters))}}/{runner.max_iters}]'
        return tag, IterationLine('  '.join([place, *numbers.values()]))

    def get_log_after_epoch(self, runner, batch_idx: int, mode: str, with_non_scalar: bool = False) -> tuple[dict, str]:
        tag, line = super().get_log_after_epoch(runner, batch_idx, mode, with_non_scalar)
        if mode != 'val' or self.by_epoch:
            return tag, line
        results = {
            name.removeprefix('val/'): value for name, value in {**tag, **self._collect_non_scalars(runner, mode)}.items()
        }
        shown = [
            f'{name} {value:.4f}' if isinstance(value, (int, float)) else f'{name} {value}'
            for name, value in results.items()
            if name not in ('time', 'data_time') and not name.startswith(HELD_OUT)
        ]
        return tag, '  '.join([f'[{runner.iter}/{runner.max_iters}]  evaluated:', *shown])

    def _get_max_memory(self, runner) -> int:
        # MMEngine's begins anew at each line, and is then no longer what has to fit into the GPU.
        return super()._get_max_memory(runner) if is_musa_available() else int(memory_in_use())


def iteration_numbers(values: Mapping[str, float], eta: float | None = None) -> dict[str, str]:
    """What a line of an iteration says, by what it is about, in this order; what is not known is left out.

    Args:
        values: Logged values by name, ``images_per_second`` and ``memory`` (MB) among them.
        eta: Seconds left.

    Returns:
        ``loss`` (of D and G, and others that are no parts of these), ``logits`` (mean, of real and fake images), ``speed``,
        ``memory``, ``eta``; and ``skipped`` updates, ``diversity`` and the share of the time ``waiting`` for data, if there is
        something to say about them.

    Example:
        >>> list(iteration_numbers(dict(loss_disc=1.5, loss_gen=0.4, images_per_second=198.2), eta=65).values())
        ['loss D 1.500 G 0.400', '198 images/s', 'eta 0:01:05']
    """
    others = {name: name[5:] for name in values if re.match(r'loss_(?!(disc|gen)(_|$))', name)}
    found = dict(
        loss=_named('loss', {**_LOSSES, **others}, values),
        logits=_named('logits', _LOGITS, values),
        speed=f'{rate(values["images_per_second"])} images/s' if 'images_per_second' in values else '',
        memory=memory_size(values['memory']) if 'memory' in values else '',
        eta=f'eta {duration(eta)}' if eta is not None else '',
        skipped=f'skipped updates {values["skipped_steps"]:.0f}' if values.get('skipped_steps') else '',
        diversity=f'diversity {values["diversity"]:.2f}' if 'diversity' in values else '',
    )
    waiting = values.get('data_time', 0) / values['time'] if values.get('time') else 0
    if waiting > _WAITING:
        found['waiting'] = f'{100 * waiting:.0f} % of the time waiting for data'
    return {about: text for about, text in found.items() if text}


def _named(title: str, names: Mapping[str, str], values: Mapping[str, float]) -> str:
    parts = [f'{short} {decimal(values[name])}' for name, short in names.items() if name in values]
    return ' '.join([title, *parts]) if parts else ''
