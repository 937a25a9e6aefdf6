"""Images that are in a data set more than once, found by the sums of their pixels."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

DIGEST_SIZE = 16  # bytes an image: two different ones of a billion share a sum by chance less than once in 10 ** 20 data sets


def digest_of(pixels) -> bytes:
    """The sum of an image's bytes: of an array in one piece, or of bytes."""
    return hashlib.blake2b(pixels, digest_size=DIGEST_SIZE).digest()


def same_images(digests: bytes) -> list[list[int]]:
    """Which images are the same.

    Args:
        digests: The sums of all images, one after the other.

    Returns:
        The numbers of the images of each group, in order; groups in the order of their first images.

    Example:
        >>> same_images(b''.join(map(digest_of, [b'cat', b'dog', b'cat'])))
        [[0, 2]]
    """
    halves = np.frombuffer(digests, np.uint64).reshape(-1, 2)
    order = np.lexsort(halves.T)  # of equal ones, the first comes first
    is_new = np.ones(len(order), bool)
    is_new[1:] = (halves[order[1:]] != halves[order[:-1]]).any(axis=1)
    groups = np.split(order, np.flatnonzero(is_new)[1:])
    return sorted(group.tolist() for group in groups if len(group) > 1)


def tell_duplicates(groups: list[list[int]], labels: Sequence[int], name_of: Callable[[int], str]) -> str:
    """One sentence on images that are there more than once, and on those that are so under several labels.

    Args:
        groups: See :func:`same_images`.
        labels: Class of each image.
        name_of: Gives an image's name by its number.

    Example:
        >>> tell_duplicates([[0, 2], [3, 4]], [0, 0, 1, 1, 1], str)
        '2 images are there more than once, 1 of them in several classes: 0 and 2'
    """
    torn = [group for group in groups if len({int(labels[number]) for number in group}) > 1]
    shown = [' and '.join(name_of(number) for number in group[:3]) for group in (torn or groups)[:3]]
    what = f'{len(groups)} image{"s are" if len(groups) > 1 else " is"} there more than once'
    if torn:
        what += f', {len(torn)} of them in several classes'
    told = f'{what}: {"; ".join(shown)}{"; ..." if len(torn or groups) > 3 else ""}'
    return printable(told)


def printable(text: str) -> str:
    """A text whose file names are not all UTF-8, as it can be written to any place that takes text."""
    return text.encode(errors='backslashreplace').decode()
