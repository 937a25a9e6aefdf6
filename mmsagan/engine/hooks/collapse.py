"""A watch on the diversity of the samples."""

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from torch import Tensor

from mmsagan.evaluation import SampleInputs
from mmsagan.models import to_uint8
from mmsagan.models.gan import unwrap
from mmsagan.registry import HOOKS

_REAL_DISTANCE = 'real_distance'  # in the message hub, which is saved with checkpoints


@HOOKS.register_module()
class CollapseHook(Hook):
    """Logs how diverse the samples are, and warns if the generator may have collapsed.

    ``diversity`` is the mean distance of two samples of the same class, of up to eight classes, from fixed noise, divided by
    the mean distance of two real images of the training's first batch. The distance is the root mean squared difference of
    pixels: a coarse measure, which is 0 for a generator that ignores its noise, and may be 0.5 or 1.2 for a healthy one.

    Args:
        interval: Iterations between two measurements.
        num_samples: Samples per class.
        threshold: A diversity below it is a warning, once until it has been above again.
        warmup: Iterations before the first warning. A generator's first samples are all alike.
    """

    def __init__(self, interval: int = 1000, num_samples: int = 8, threshold: float = 0.1, warmup: int = 2000):
        self.interval = interval
        self.num_samples = num_samples
        self.threshold = threshold
        self.warmup = warmup
        self._has_warned = False

    @master_only
    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        hub = runner.message_hub
        if _REAL_DISTANCE not in hub.runtime_info:
            hub.update_info(_REAL_DISTANCE, mean_distance(torch.stack(list(data_batch['inputs'][:64]))))
        if not self.every_n_train_iters(runner, self.interval):
            return
        model = unwrap(runner.model)
        num_groups = min(model.num_classes or 8, 8)
        # Not torch's random numbers, which the training goes on with.
        noise = SampleInputs(model.noise_size, seed=(0, 0)).noise(0, num_groups * self.num_samples)
        label = torch.arange(num_groups).repeat_interleave(self.num_samples) if model.num_classes else None
        samples = to_uint8(model.sample(noise, label, sample_model='orig'))
        within = [mean_distance(group) for group in samples.split(self.num_samples)]
        diversity = sum(within) / len(within) / max(hub.get_info(_REAL_DISTANCE), 1e-6)
        hub.update_scalar('train/diversity', diversity)
        is_low = diversity < self.threshold and runner.iter + 1 >= self.warmup
        if is_low and not self._has_warned:
            runner.logger.warning(
                f'iteration {runner.iter + 1}: diversity {diversity:.3f} is below {self.threshold}; the generator may have '
                'collapsed. If its samples are all alike, resume from an earlier checkpoint with a lower learning rate of the '
                'generator, a larger batch or more discriminator steps'
            )
        self._has_warned = is_low


def mean_distance(images: Tensor) -> float:
    """The mean distance of two of the images (N, C, H, W) uint8, from 0 (all equal) to 1; 0 for a single image."""
    pixels = images.flatten(1).float() / 255
    return float(torch.pdist(pixels).mean()) / pixels.shape[1] ** 0.5 if len(images) > 1 else 0.0
