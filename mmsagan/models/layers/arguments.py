"""Arguments that are sizes or configs: what PyTorch would say of wrong ones is said in the words of the config."""

from collections.abc import Mapping

from mmsagan.errors import ConfigError

MOST_CHANNELS = 1 << 20  # beyond it, a layer's weights do not fit into any memory


def check_counts(least: int = 1, **counts) -> None:
    """Raises a ConfigError that names the first argument that is no whole number from ``least`` to :data:`MOST_CHANNELS`.

    Example:
        >>> check_counts(base_channels=64, noise_size=-1)
        Traceback (most recent call last):
        mmsagan.errors.ConfigError: noise_size must be a whole number from 1 to 1048576, got -1
    """
    for name, count in counts.items():
        if not isinstance(count, int) or not least <= count <= MOST_CHANNELS:
            raise ConfigError(f'{name} must be a whole number from {least} to {MOST_CHANNELS}, got {count!r:.100}')


def check_configs(**configs) -> None:
    """Raises a ConfigError that names the first argument that is no dict."""
    for name, config in configs.items():
        if not isinstance(config, Mapping):
            raise ConfigError(f'{name} must be a dict(type=...), got {config!r:.100}')
