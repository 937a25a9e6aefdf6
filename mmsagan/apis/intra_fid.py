"""FID within each class, from the results of an evaluation."""

import json
from pathlib import Path

from mmsagan.errors import DataError

_TABLE = '/per_class'


def read_intra_fid(path: str | Path, num_classes: int) -> tuple[str, dict[str, float]]:
    """Reads the table by class that ``IntraFID`` gives, as ``tools/test.py --out`` writes it.

    Args:
        path: The .json file.
        num_classes: How many classes it must have.

    Returns:
        The metric's name, which says what extractor it is of, such as ``IntraFID-digits``; and its values by the class's name,
        in the order of the classes.

    Raises:
        DataError: The file cannot be read, has no such table or several, or one for another number of classes.
    """
    try:
        results = json.loads(Path(path).read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f'{path}: cannot be read as results of tools/test.py: {error}') from error
    tables = [name for name in (results if isinstance(results, dict) else ()) if name.endswith(_TABLE)]
    if len(tables) != 1:
        found = f'several results by class ({", ".join(tables)})' if tables else 'no results by class'
        raise DataError(f'{path}: {found}; evaluate with one IntraFID in test_evaluator.metrics (tools/test.py --out)')
    table = results[tables[0]]
    if not isinstance(table, dict) or not all(isinstance(value, (int, float)) for value in table.values()):
        raise DataError(f'{path}: {tables[0]} must hold a number by class, as tools/test.py --out writes it')
    if len(table) != num_classes:
        raise DataError(f'{path}: {tables[0]} is of {len(table)} classes, but the model has {num_classes}')
    return tables[0].removesuffix(_TABLE), table
