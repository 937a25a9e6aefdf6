"""Finding the checkpoint that a training goes on from."""

import re
from collections.abc import Iterator
from pathlib import Path

from mmsagan.checkpoints.wholeness import check_whole
from mmsagan.errors import CheckpointError

POINTER = 'last_checkpoint'  # MMEngine's file that names the newest checkpoint


def saved_checkpoints(folder: Path, template: str = 'iter_{}.pth') -> list[tuple[int, Path]]:
    """The checkpoints of a folder.

    Args:
        folder: Of a run.
        template: Their names, with ``{}`` for the iteration.

    Returns:
        Iteration and file of each, ascending.
    """
    before, _, after = template.partition('{}')
    name = re.compile(f'{re.escape(before)}(\\d+){re.escape(after)}')
    found = [(name.fullmatch(path.name), path) for path in Path(folder).glob('*')]
    return sorted((int(match[1]), path) for match, path in found if match)


def newest_whole_checkpoint(
    folder: Path, template: str = 'iter_{}.pth', pointer: Path | None = None
) -> tuple[Path | None, list[CheckpointError]]:
    """The newest checkpoint of a run that was written to its end and not damaged since.

    Args:
        folder: Of the run's checkpoints.
        template: See :func:`saved_checkpoints`.
        pointer: MMEngine's file that names the newest one; None: the one in the folder.

    Returns:
        The file, None if the run has none at all; and what is wrong with newer ones.

    Raises:
        CheckpointError: The run has checkpoints, and none is whole.
    """
    errors: list[CheckpointError] = []
    for _, path in newest_first(Path(folder), template, pointer):
        try:
            check_whole(path)
            return path, errors
        except CheckpointError as error:
            errors.append(error)
    if errors:
        raise CheckpointError(f'no checkpoint in {folder} can be resumed from: ' + '; '.join(map(str, errors)))
    return None, []


def newest_first(folder: Path, template: str, pointer: Path | None = None) -> Iterator[tuple[int, Path]]:
    """Iteration and file of each checkpoint of a run, the newest first; see :func:`newest_whole_checkpoint`.

    Those behind the pointer's are left out: they are of an earlier and longer run in the same folder.
    """
    saved = saved_checkpoints(folder, template)
    pointer = folder / POINTER if pointer is None else pointer
    pointed = Path(pointer.read_text(errors='replace').strip()) if pointer.is_file() else None
    of_pointer = next((step for step, path in saved if pointed is not None and path.name == pointed.name), None)
    for step, path in reversed(saved):
        # A run killed between the two writes has a checkpoint that is newer than its pointer.
        if of_pointer is None or step <= of_pointer or path.stat().st_mtime_ns >= pointer.stat().st_mtime_ns:
            yield step, path
