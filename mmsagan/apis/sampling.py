"""Images from a trained model: samples, and the way from one sample to another."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral, Real

import torch
import torch.nn.functional as F
from numpy import ndarray
from torch import Tensor

from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation import SampleInputs
from mmsagan.evaluation.plan import exact_arithmetic
from mmsagan.models import ConditionalGAN, to_uint8
from mmsagan.utils.modules import unwrap

Labels = int | Sequence[int] | Tensor | ndarray
Noise = Tensor | ndarray


def sample(
    model: ConditionalGAN,
    num_samples: int = 16,
    labels: Labels | None = None,
    noise: Noise | None = None,
    seed: int | None = None,
    sample_model: str | None = None,
    truncation: float | None = None,
    batch_size: int = 64,
) -> Tensor:
    """Makes images.

    What is drawn for sample ``i`` depends on ``i`` and the seed alone. With the same seed, these are the samples that an
    evaluation scores (``tools/test.py``; its seed is 0 by default).

    Args:
        model: As :func:`~mmsagan.apis.init_model` gives it.
        num_samples: N, where neither ``noise`` nor several labels are given; else their number is N.
        labels: One class for all samples, or the class of each; None draws them uniformly. Also class weights
            (N, num_classes), floating point, for what lies between classes.
        noise: (N, noise_size); None draws it from a standard normal distribution.
        seed: Of what is drawn; None takes one from torch's random numbers, which ``torch.manual_seed`` sets.
        sample_model: ``'ema'`` or ``'orig'``; None takes the moving average if there is one.
        truncation: Largest magnitude of a noise component, see :func:`truncate`; the smaller, the more typical and the less
            varied the images. None: no limit.
        batch_size: Images at a time.

    Returns:
        (N, 3, H, W) uint8 RGB, on the CPU.

    Raises:
        ConfigError: An argument is out of range or does not fit the model.
        DataError: The model gives NaN or Inf.

    Example:
        >>> model = init_model('configs/sagan/sagan_32_mnist_b64x1.py')
        >>> sample(model, labels=range(10), seed=0).shape
        torch.Size([10, 3, 32, 32])
    """
    model = unwrap(model)
    noise, label = resolve_inputs(model, num_samples, labels, noise, seed, truncation)
    return torch.cat([_images(model, *batch, sample_model) for batch in batches_of(noise, label, batch_size)])


def interpolate(
    model: ConditionalGAN,
    num_steps: int = 8,
    noise: Noise | None = None,
    labels: Labels | None = None,
    seed: int | None = None,
    mode: str = 'slerp',
    sample_model: str | None = None,
    truncation: float | None = None,
    batch_size: int = 64,
) -> Tensor:
    """Goes from one sample to another in equal steps: from noise to noise, from class to class, or both at once.

    The first and the last image are those that :func:`sample` makes of the ends.

    Args:
        model: As :func:`~mmsagan.apis.init_model` gives it.
        num_steps: Number of images, the ends included.
        noise: Both ends (2, noise_size), or what all steps share, (noise_size,) or (1, noise_size). None draws both ends; where
            two classes are given, it draws a single noise, so that the class alone changes.
        labels: One class for all steps, or two: from the first to the second by mixing their embeddings linearly. None draws
            one for all steps.
        seed: Of what is drawn: the noises of :func:`sample`'s samples 0 and 1, and the class of sample 0. None takes one from
            torch's random numbers.
        mode: How noises are mixed. ``'slerp'`` turns one into the other, see :func:`slerp`; ``'lerp'`` goes straight, and so by
            way of shorter noises than the model knows.
        sample_model: ``'ema'`` or ``'orig'``; None takes the moving average if there is one.
        truncation: As in :func:`sample`; applied to every step's noise.
        batch_size: Images at a time.

    Returns:
        (num_steps, 3, H, W) uint8 RGB, on the CPU.

    Raises:
        ConfigError: An argument is out of range or does not fit the model, or there is only one end.
        DataError: The model gives NaN or Inf.

    Example:
        >>> model = init_model('configs/sagan/sagan_32_mnist_b64x1.py')
        >>> from_3_to_8 = interpolate(model, num_steps=5, labels=(3, 8), seed=0)
    """
    check_counts(2, num_steps=num_steps)
    if mode not in ('slerp', 'lerp'):
        raise ConfigError(f"mode must be 'slerp' or 'lerp', got {mode!r}")
    model = unwrap(model)
    inputs = sample_inputs(model, seed)
    label = _end_labels(labels, model, inputs)
    changes_class = label is not None and len(label) == 2
    noise = inputs.noise(0, 1 if changes_class else 2) if noise is None else _as_noise(noise, model)
    if len(noise) > 2 or (len(noise) == 1 and not changes_class):
        raise ConfigError(
            f'{len(noise)} noises and {0 if label is None else len(label)} classes: nothing to interpolate between; give two '
            'noises, two classes, or both'
        )
    share = torch.linspace(0, 1, num_steps, dtype=torch.float64)[:, None]
    if label is not None and changes_class:
        label = _between(F.one_hot(label, model.num_classes), share, torch.lerp).float()
    elif label is not None:
        label = label.expand(num_steps)
    path = _between(noise, share, slerp if mode == 'slerp' else torch.lerp).float()
    return sample(model, labels=label, noise=path, sample_model=sample_model, truncation=truncation, batch_size=batch_size)


def resolve_inputs(
    model: ConditionalGAN,
    num_samples: int,
    labels: Labels | None,
    noise: Noise | None,
    seed: int | None,
    truncation: float | None,
) -> tuple[Tensor, Tensor | None]:
    """What the generator gets for the arguments of :func:`sample`: noise (N, noise_size), and classes (N,) or class weights."""
    check_counts(num_samples=num_samples)
    inputs = sample_inputs(model, seed)
    label = None if labels is None else _as_label(labels)
    if noise is None:
        noise = inputs.noise(0, num_samples if label is None or label.dim() == 0 else len(label))
    else:
        noise = _as_noise(noise, model)
    if label is None:
        _, label = inputs.draw(0, len(noise))
    elif label.dim() == 0:
        label = label.expand(len(noise))
    if label is not None:
        model.check_label(label, len(noise))
    return noise if truncation is None else truncate(noise, truncation), label


def batches_of(noise: Tensor, label: Tensor | None, batch_size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Noise and classes, ``batch_size`` samples at a time."""
    check_counts(batch_size=batch_size)
    return zip(noise.split(batch_size), itertools.repeat(None) if label is None else label.split(batch_size))


def check_counts(least: int = 1, **counts: int) -> None:
    """Raises a ConfigError for an argument that is not a whole number of at least ``least``."""
    for name, count in counts.items():
        if not isinstance(count, Integral) or count < least:
            raise ConfigError(f'{name} must be a whole number of at least {least}, got {count!r}')


def sample_inputs(model: ConditionalGAN, seed: int | None) -> SampleInputs:
    """Noise and labels for a seed, those of an evaluation with this seed; None takes a seed from torch's random numbers."""
    if seed is None:
        seed = int(torch.randint(2**63 - 1, ()))
    check_counts(0, seed=seed)
    return SampleInputs(model.noise_size, model.num_classes, (seed, 0))


def truncate(noise: Tensor, truncation: float) -> Tensor:
    """Takes standard normal noise to a normal distribution that is cut off at ``±truncation``.

    Each component keeps its sign and its rank: z becomes the number whose quantile in the truncated distribution is that of z
    in the normal one. The distribution is that of BigGAN's truncation trick, which draws components anew until none is
    larger; here, no number is drawn anew, so that a sample and its truncated versions stay alike.

    Args:
        noise: Of any shape.
        truncation: Largest magnitude of a component.

    Returns:
        Noise of the same shape and type.

    Raises:
        ConfigError: ``truncation`` is not positive.
    """
    if not isinstance(truncation, Real) or not truncation > 0:
        raise ConfigError(f'truncation must be greater than 0, got {truncation}')
    # In the lower half, where probabilities are small numbers and not differences from 1: exact for large limits, too.
    magnitude = noise.double().abs()
    below = torch.special.ndtr(torch.tensor(-truncation, dtype=torch.float64))
    probability = below + (1 - 2 * below) * torch.special.ndtr(-magnitude)
    truncated = -torch.special.ndtri(probability)
    # Truncating makes nothing larger; beyond 38 standard deviations, probabilities are 0 and their quantiles infinite.
    truncated = truncated.minimum(magnitude).clamp(0, truncation)
    return truncated.copysign(noise.double()).to(noise.dtype)


def slerp(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """Spherical linear interpolation: turns one vector into another at constant speed, by the shorter way.

    Unlike straight interpolation it keeps the length, if both have the same; noises in many dimensions nearly do. Between
    opposite vectors no way is the shorter: it leads over a vector perpendicular to both. Source: Shoemake 1985; White 2016 for
    noises.

    Args:
        start: Vector (D,), floating point.
        end: Vector (D,).
        share: How far along the way (K, 1), in [0, 1]; of the vectors' type.

    Returns:
        (K, D).
    """
    first, second = F.normalize(start, dim=0), F.normalize(end, dim=0)
    # Unlike the arc cosine of the product, exact for nearly parallel and nearly opposite vectors.
    angle = 2 * torch.atan2((first - second).norm(), (first + second).norm())
    if angle < 1e-6:
        return torch.lerp(start, end, share)
    if angle > math.pi - 1e-6:
        middle = _perpendicular(first) * (start.norm() + end.norm()) / 2
        return torch.where(share < 0.5, slerp(start, middle, 2 * share), slerp(middle, end, 2 * share - 1))
    return (torch.sin((1 - share) * angle) * start + torch.sin(share * angle) * end) / torch.sin(angle)


def _perpendicular(direction: Tensor) -> Tensor:
    """A unit vector perpendicular to another one, always the same."""
    axis = torch.zeros_like(direction)
    axis[direction.abs().argmin()] = 1
    return F.normalize(axis - (axis @ direction) * direction, dim=0)


def _between(ends: Tensor, share: Tensor, mix: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """Mixes the rows of (2, D), or repeats that of (1, D): (K, D), K being the number of shares (K, 1)."""
    ends = ends.double()
    return mix(ends[0], ends[1], share) if len(ends) == 2 else ends.expand(len(share), -1)


def _end_labels(labels: Labels | None, model: ConditionalGAN, inputs: SampleInputs) -> Tensor | None:
    """The two classes of a way (2,), or that of all its steps (1,); None for an unconditional model."""
    if labels is None:
        _, label = inputs.draw(0, 1)
        return label
    label = _as_label(labels).reshape(-1)
    if label.is_floating_point() or len(label) not in (1, 2):
        raise ConfigError(f'labels must be one class or two, got {labels}')
    model.check_label(label, len(label))
    return label


def _as_label(labels: Labels) -> Tensor:
    try:
        label = torch.as_tensor(labels, device='cpu')
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f'labels must be a class, or the classes of all samples, got {labels!r}') from error
    if label.dim() > 1 and not label.is_floating_point():
        raise ConfigError(f'labels must be a class, or the classes of all samples (N,), got the shape {tuple(label.shape)}')
    return label if label.is_floating_point() else label.long()


def _as_noise(noise: Noise, model: ConditionalGAN) -> Tensor:
    try:
        vectors = torch.atleast_2d(torch.as_tensor(noise, device='cpu'))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f'noise must be numbers of shape (N, {model.noise_size}), got {type(noise).__name__}') from error
    if vectors.is_complex() or not vectors.isfinite().all():
        raise ConfigError('noise must be finite real numbers')
    vectors = vectors.float()
    if vectors.dim() != 2 or vectors.shape[1] != model.noise_size:
        raise ConfigError(f'noise must be of shape (N, {model.noise_size}), got {tuple(vectors.shape)}')
    return vectors


def _images(model: ConditionalGAN, noise: Tensor, label: Tensor | None, sample_model: str | None) -> Tensor:
    with exact_arithmetic():
        images = model.sample(noise, label, sample_model=sample_model)
    if not images.isfinite().all():
        raise DataError('the samples hold NaN or Inf: the generator has diverged')
    return to_uint8(images).cpu().contiguous()
