"""What several processes do together."""

from collections.abc import Callable
from typing import TypeVar

from mmengine.dist import broadcast_object_list, is_main_process

T = TypeVar('T')


def from_main_process(make: Callable[[], T]) -> T:
    """Calls ``make`` on the first process, and gives all of them its result."""
    box = [make() if is_main_process() else None]
    broadcast_object_list(box)
    return box[0]
