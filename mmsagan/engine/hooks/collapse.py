"""A watch on two ways in which a GAN's training fails without an error: the generator collapses, the discriminator wins."""

from collections.abc import Sequence

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from torch import Tensor

from mmsagan.errors import ConfigError
from mmsagan.evaluation import SampleInputs
from mmsagan.evaluation.diversity import RealPairs, mean_distance
from mmsagan.models import to_uint8
from mmsagan.registry import HOOKS
from mmsagan.utils.modules import unwrap

_FEWEST_PAIRS = 32  # of real images of the same class, for a mean that can be relied on
_QUIET_INTERVALS = 10  # between two warnings of the same kind
_WON_LOSS = 0.01
_STATE = 'real_pairs'  # in checkpoints
WARNINGS = 'collapse_warnings'  # in the message hub: by kind of warning, the iteration of the last one, of all runs


@HOOKS.register_module()
class CollapseHook(Hook):
    """Logs how diverse the samples of a fixed grid are, and warns if they no longer are, or if the discriminator has won.

    ``diversity`` is the mean distance of two samples of the same class (the root of the mean squared difference of their
    pixels), divided by that of two training images of the same class: 1 for a generator as diverse as the data, 0 for one that
    makes the same image of a class from all noises. The real pairs come from the training's first batches. Where 1000 of these
    hold too few pairs of the same class, as with very many classes, both means are over pairs of any classes; the log says so.
    Pixels are a coarse measure: a healthy training may have a diversity of 0.5 or 1.2. It is near 0 only in a collapse.

    The discriminator has won if it tells real from fake all the time: if both parts of its loss, averaged over an interval, lie
    between 0 and 0.01. That holds for the hinge, the cross-entropy and the least-squares loss alike, whose minimum is 0; a
    Wasserstein loss has none, and is not judged. ``logits_gap`` in the log shows how it comes to that.

    The training is not changed by it: noise is drawn from numbers of its own, and only the first process samples. The samples
    of a model without classes are compared as if they were of one class.

    Args:
        interval: Iterations between two looks.
        num_noises: Samples a class.
        classes: The classes that are sampled; None takes the first eight.
        threshold: A diversity below it is a collapse.
        warmup: Iterations before the first warning: the first samples of every training are all alike.
        seed: Of the noise.
        sample_model: ``'orig'`` or ``'ema'``. A slow moving average starts out nearly constant, and is the last to collapse.

    Raises:
        ConfigError: An argument is out of range.
    """

    priority = 'NORMAL'

    def __init__(
        self,
        interval: int = 1000,
        num_noises: int = 8,
        classes: Sequence[int] | None = None,
        threshold: float = 0.1,
        warmup: int = 2000,
        seed: int = 0,
        sample_model: str = 'orig',
    ):
        if interval < 1 or num_noises < 2:
            raise ConfigError(
                f'CollapseHook: interval must be at least 1 and num_noises at least 2, got {interval} and {num_noises}'
            )
        self.interval = interval
        self.num_noises = num_noises
        self.classes = classes
        self.threshold = threshold
        self.warmup = warmup
        self.seed = seed
        self.sample_model = sample_model
        self.real_pairs = RealPairs()
        self._warned: dict[str, int] = {}  # by kind of warning: the iteration of the last one
        self._has_told = False

    def before_train(self, runner) -> None:
        """Finds at once what would otherwise fail at the first look."""
        model = unwrap(runner.model)
        wrong = [label for label in self.classes or () if not 0 <= label < model.num_classes]
        if wrong:
            raise ConfigError(f'CollapseHook: class {wrong[0]} is out of range, the model has {model.num_classes}')
        try:
            model.sampled_network(self.sample_model)
        except ConfigError as error:
            raise ConfigError(f'CollapseHook: {error}') from error

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        if 'optimizer' in checkpoint:  # one to go on from
            checkpoint[_STATE] = self.real_pairs.state_dict()

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if runner._resume and _STATE in checkpoint:
            self.real_pairs.load_state_dict(checkpoint[_STATE])

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if not is_main_process():
            return
        if not self.real_pairs.is_complete:
            conditional = unwrap(runner.model).num_classes > 0
            labels = data_batch['labels'] if conditional else [0] * len(data_batch['inputs'])
            self.real_pairs.add(data_batch['inputs'], labels)
        if self.every_n_train_iters(runner, self.interval):
            self._look_at_samples(runner)
            self._look_at_discriminator(runner)

    def _look_at_samples(self, runner) -> None:
        diversity = self.diversity(runner)
        if diversity is None:
            return
        runner.message_hub.update_scalar('train/diversity', diversity)
        if diversity < self.threshold:
            self._warn(
                runner,
                'collapse',
                f'samples differ from each other by only {100 * diversity:.1f} % of what real images do (diversity '
                f'{diversity:.3f}, threshold {self.threshold}): the generator may have collapsed. Look at its samples; if they '
                'are all alike, go on from an earlier checkpoint, with a lower learning rate of the generator, a larger batch '
                'or more discriminator steps',
            )

    def diversity(self, runner) -> float | None:
        """How diverse the samples are compared with the data; None as long as there is nothing to compare them with."""
        of_same_class = self.real_pairs.of_same_class.count >= _FEWEST_PAIRS
        real = self.real_pairs.of_same_class if of_same_class else self.real_pairs.of_any_class
        if not (of_same_class or self.real_pairs.is_complete) or not real.count or not real.mean:
            return None
        if not self._has_told:
            self._has_told = True
            pairs = 'the same class' if of_same_class else 'any classes, since few are of the same class'
            runner.logger.info(f'diversity compares pairs of samples with pairs of real images of {pairs}')
        groups = self.sample(unwrap(runner.model))
        return mean_distance(groups if of_same_class else [torch.cat(groups)]) / real.mean

    def sample(self, model) -> list[Tensor]:
        """The grid: for each class its samples (num_noises, 3, S, S), uint8."""
        classes = list(self.classes or range(min(8, model.num_classes)))
        # Without classes there are as many groups all the same.
        num_samples = (len(classes) or 8) * self.num_noises
        noise = SampleInputs(model.noise_size, seed=(self.seed, 0)).noise(0, num_samples)
        labels = torch.tensor(classes).repeat_interleave(self.num_noises).split(64) if classes else [None] * num_samples
        images = [model.sample(part, label, sample_model=self.sample_model) for part, label in zip(noise.split(64), labels)]
        return list(to_uint8(torch.cat(images)).split(self.num_noises))

    def _look_at_discriminator(self, runner) -> None:
        log = runner.message_hub.log_scalars
        names = ('loss_disc_real', 'loss_disc_fake', 'logits_gap')
        if not all(f'train/{name}' in log for name in names):
            return
        real, fake, gap = (float(log[f'train/{name}'].mean(self.interval)) for name in names)
        if 0 <= real < _WON_LOSS and 0 <= fake < _WON_LOSS and gap > 0:
            self._warn(
                runner,
                'discriminator',
                f'in the last {self.interval} iterations the discriminator has told real from fake all the time '
                f'(loss_disc_real {real:.2g}, loss_disc_fake {fake:.2g}, logits_gap {gap:.3g}): neither network learns from '
                "that. Lower the discriminator's learning rate or model.discriminator_steps, or have it see more varied images "
                '(model.data_preprocessor.flip_prob)',
            )

    def _warn(self, runner, kind: str, message: str) -> None:
        iteration = runner.iter + 1
        last = self._warned.get(kind)
        # A training that has gone back to a checkpoint is earlier than its last warning.
        if iteration < self.warmup or (last is not None and 0 <= iteration - last < _QUIET_INTERVALS * self.interval):
            return
        self._warned[kind] = iteration
        earlier = runner.message_hub.get_info(WARNINGS, {})
        runner.message_hub.update_info(WARNINGS, {**earlier, kind: iteration})
        runner.logger.warning(f'iteration {iteration}: {message}')
