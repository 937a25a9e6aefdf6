"""Results as a table for people."""

from mmsagan.evaluation.evaluator import HELD_OUT


def results_table(results: dict) -> str:
    """A line a result, with the held-out real images' value beside the samples' where there is one.

    Args:
        results: What an evaluator gives; tables within it (``per_class``) are left out.
    """
    numbers = {name: f'{value:.4f}' for name, value in results.items() if isinstance(value, (int, float))}
    names = [name for name in numbers if not name.startswith(HELD_OUT)]
    width = max(map(len, names), default=0)
    columns = [('', 'samples', 'held-out real')]
    columns += [(name, numbers[name], numbers.get(HELD_OUT + name, '')) for name in names]
    if not any(held_out for _, _, held_out in columns[1:]):
        columns = [(name, value, '') for name, value, _ in columns]
    return '\n'.join(f'  {name:<{width}}  {value:>10}  {held_out:>13}'.rstrip() for name, value, held_out in columns)
