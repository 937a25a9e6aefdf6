"""What several processes do together."""

from collections.abc import Callable
from typing import TypeVar

from mmengine.dist import broadcast_object_list, is_main_process

from mmsagan.errors import MMSAGANError

T = TypeVar('T')


def from_main_process(make: Callable[[], T]) -> T:
    """Calls ``make`` on the first process, and gives all of them its result.

    Raises:
        MMSAGANError: ``make`` has raised it; in all processes, since the others would wait for ever.
    """
    box: list = [None, None]
    if is_main_process():
        try:
            box[0] = make()
        except MMSAGANError as error:
            box[1] = error
    broadcast_object_list(box)
    if box[1] is not None:
        raise box[1]
    return box[0]
