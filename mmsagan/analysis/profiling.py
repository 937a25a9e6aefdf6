"""Which operators the time of an action goes into."""

from dataclasses import dataclass

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from mmsagan.analysis.measuring import Action
from mmsagan.analysis.tables import text_table


@dataclass(frozen=True)
class OperatorTime:
    """An operator's part in an action.

    Args:
        name: PyTorch's, as ``'aten::convolution_backward'``.
        seconds: In the operator itself, without those that it calls; on a GPU in its kernels.
        share: Of the time of all operators.
        calls: How often it is called.
    """

    name: str
    seconds: float
    share: float
    calls: int


def profile_action(action: Action, device: torch.device | str = 'cpu', warmup: int = 1) -> list[OperatorTime]:
    """Profiles one call.

    Args:
        action: What is profiled.
        device: Where it runs.
        warmup: Calls before.

    Returns:
        All operators, the one with the most time first. Profiling costs time of its own, a few per cent here.

    Example:
        >>> a = torch.rand(256, 256)
        >>> profile_action(lambda: a @ a)[0].name
        'aten::mm'
    """
    on_gpu = torch.device(device).type == 'cuda'
    for _ in range(warmup):
        action()
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as profiler:
        action()
        if on_gpu:
            torch.cuda.synchronize(device)
    # Operators only: kernels are listed a second time by themselves, and so are ranges that code has marked.
    events = [
        event for event in profiler.key_averages() if event.device_type == DeviceType.CPU and not event.is_user_annotation
    ]
    times = [event.self_device_time_total if on_gpu else event.self_cpu_time_total for event in events]
    total = sum(times)
    operators = [OperatorTime(event.key, time / 1e6, time / total, event.count) for event, time in zip(events, times)]
    return sorted(operators, key=lambda operator: -operator.seconds)


def profile_table(operators: list[OperatorTime], rows: int) -> str:
    """The operators that take longest, for people, and a line of all others."""
    lines = [[op.name, f'{op.seconds:.3f}', f'{op.share:.1%}', f'{op.calls:,}'] for op in operators[:rows]]
    rest = operators[rows:]
    if rest:
        calls = sum(op.calls for op in rest)
        lines.append(['others', f'{sum(op.seconds for op in rest):.3f}', f'{sum(op.share for op in rest):.1%}', f'{calls:,}'])
    return text_table(['operator', 'time [s]', 'share', 'calls'], lines, left=1)
