"""Numbers as people read them."""


def duration(seconds: float) -> str:
    """A span of time: ``0:04:38``, ``1 day 2:03:04``."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    time = f'{hour}:{minute:02}:{second:02}'
    return time if not days else f'{days} day{"" if days == 1 else "s"} {time}'


def memory_size(megabytes: float) -> str:
    """An amount of memory, of MB of 2^20 bytes: ``412 MB``, ``11.3 GB``."""
    return f'{megabytes:.0f} MB' if megabytes < 1000 else f'{megabytes / 1024:.1f} GB'


def decimal(value: float) -> str:
    """A loss, a logit or a score, in a few digits whatever its size: ``1.567``, ``-0.002``, ``1.235e+05``."""
    return f'{value:.3f}' if abs(value) < 1000 else f'{value:.4g}'


def rate(value: float) -> str:
    """How many a second: ``2310``, ``45.6``, ``0.821``."""
    return f'{value:.0f}' if value >= 100 else f'{value:.3g}'
