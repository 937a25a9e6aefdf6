"""Results as a table for people."""

from mmsagan.evaluation.evaluator import HELD_OUT


def results_table(results: dict) -> str:
    """A line a result, with the held-out real images' value beside the samples' where there is one.

    Args:
        results: What an evaluator gives; of a table by class (``per_class``), the classes with the largest values are listed.
    """
    numbers = {name: f'{value:.4f}' for name, value in results.items() if isinstance(value, (int, float))}
    names = [name for name in numbers if not name.startswith(HELD_OUT)]
    width = max(map(len, names), default=0)
    columns = [('', 'samples', 'held-out real')]
    columns += [(name, numbers[name], numbers.get(HELD_OUT + name, '')) for name in names]
    if not any(held_out for _, _, held_out in columns[1:]):
        columns = [(name, value, '') for name, value, _ in columns]
    lines = [f'  {name:<{width}}  {value:>10}  {held_out:>13}'.rstrip() for name, value, held_out in columns]
    for name, value in results.items():
        if isinstance(value, dict):
            lines += ['', *_class_lines(name, value)]
    return '\n'.join(lines)


def _class_lines(name: str, of_class: dict[str, float], most: int = 20) -> list[str]:
    largest = sorted(of_class.items(), key=lambda item: item[1], reverse=True)[:most]
    width = max(len(label) for label, _ in largest)
    title = f'  {name}' if len(of_class) <= most else f'  {name}, the {most} largest of {len(of_class)}'
    return [title, *(f'    {label:<{width}}  {value:>10.4f}' for label, value in largest)]
