"""The two update steps of a GAN, and an iteration made of them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn

from mmsagan.errors import ConfigError
from mmsagan.models.undo import BufferKeeper, skips_updates, was_skipped
from mmsagan.utils.modules import unwrap


class AlternatingUpdates:
    """How :class:`~mmsagan.models.gan.ConditionalGAN` is trained; it reads the settings there.

    No gradient is computed that no optimizer uses: D's update makes its fake images without a graph, and in G's update D only
    passes the gradient on.

    An update that its optimizer wrapper skips, see :class:`~mmsagan.engine.finite_steps.SkipsNonFinite`, leaves no trace in the
    networks and the moving average; the iteration counts all the same.
    """

    _iteration: int | None

    def train_step(self, data: dict, optim_wrapper: OptimWrapperDict) -> dict[str, Tensor]:
        """One iteration: an update of D and, when due, of G and of the moving average.

        Args:
            data: A batch of real images, see :class:`~mmsagan.models.data_preprocessor.DataPreprocessor`.
            optim_wrapper: The optimizers ``generator`` and ``discriminator``.

        Returns:
            Losses and mean logits, to be logged.
        """
        real = self.data_preprocessor(data, True)
        log_vars = self.train_discriminator(real['inputs'], real['labels'], optim_wrapper['discriminator'])
        iteration = self._count_iteration()
        if iteration % self.discriminator_steps == 0:
            updates_before = (iteration // self.discriminator_steps - 1) * self.generator_steps
            for step in range(1, self.generator_steps + 1):
                log_vars.update(self.train_generator(len(real['inputs']), optim_wrapper['generator']))
                if self.ema is not None and not was_skipped(optim_wrapper['generator']):
                    self.ema.update(self.generator_ema, unwrap(self.generator), iteration, updates_before + step)
        return log_vars

    def train_discriminator(self, images: Tensor, label: Tensor, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Updates D once.

        Args:
            images: Real images (N, 3, S, S), float in [-1, 1].
            label: Their classes (N,).
            optim_wrapper: D's optimizer.

        Returns:
            ``loss_disc``, its parts ``loss_disc_real``, ``loss_disc_fake`` and of a classifying D ``loss_disc_class``, the mean
            ``logits_real`` and ``logits_fake``, and ``logits_gap``, by which the first exceeds the second. Of a skipped update
            only what is finite.
        """
        parts = _num_parts(len(images), optim_wrapper)
        images = images.contiguous(memory_format=self.memory_format(self.discriminator))
        logs = []
        with self._undone_if_skipped(optim_wrapper, 'discriminator', 'generator'):
            for real, real_label in zip(images.chunk(parts), label.chunk(parts)):
                logs.append(self._train_discriminator_on_part(real, real_label, optim_wrapper))
        logs = _mean_logs(logs)
        logs['logits_gap'] = logs['logits_real'] - logs['logits_fake']
        return _finite(logs) if was_skipped(optim_wrapper) else logs

    def _train_discriminator_on_part(self, real: Tensor, real_label: Tensor, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        with optim_wrapper.optim_context(self.discriminator):
            with torch.no_grad():
                fake_images, fake_label = self._make_fake(unwrap(self.generator), len(real))
            (real_logits, real_classes), (fake_logits, fake_classes) = self._judge_both(
                real, real_label, fake_images, fake_label
            )
            loss_real, loss_fake = self.gan_loss.discriminator_loss(real_logits, fake_logits)
            losses = dict(loss_disc_real=loss_real, loss_disc_fake=loss_fake)
            if self.auxiliary_loss is not None:
                losses['loss_disc_class'] = self.auxiliary_loss.discriminator_loss(
                    real_classes, real_label, fake_classes, fake_label
                )
            loss = sum(losses.values())
        optim_wrapper.update_params(loss)
        return dict(loss_disc=loss, **losses, logits_real=real_logits.mean(), logits_fake=fake_logits.mean())

    def train_generator(self, batch_size: int, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Updates G once, on ``batch_size`` fake images.

        Args:
            batch_size: How many images.
            optim_wrapper: G's optimizer.

        Returns:
            ``loss_gen``, and with a classifying D its part ``loss_gen_class``; of a skipped update only what is finite.
        """
        parts = _num_parts(batch_size, optim_wrapper)
        # D only passes the gradient on here. Unwrapped, since DDP would wait for gradients of its weights.
        discriminator = unwrap(self.discriminator)
        logs = []
        undone_if_skipped = self._undone_if_skipped(optim_wrapper, 'discriminator', 'generator')
        with undone_if_skipped, _without_weight_gradients(discriminator):
            for _ in range(parts):
                with optim_wrapper.optim_context(self.generator):
                    images, label = self._make_fake(self.generator, batch_size // parts)
                    logits, classes = _logits_and_classes(discriminator(images, label))
                    loss, losses = self.gan_loss.generator_loss(logits), {}
                    if self.auxiliary_loss is not None:
                        losses['loss_gen_class'] = self.auxiliary_loss.generator_loss(classes, label)
                        loss = loss + losses['loss_gen_class']
                optim_wrapper.update_params(loss)
                logs.append(dict(loss_gen=loss, **losses))
        logs = _mean_logs(logs)
        return _finite(logs) if was_skipped(optim_wrapper) else logs

    @contextmanager
    def _undone_if_skipped(self, optim_wrapper: OptimWrapper, *networks: str) -> Iterator[None]:
        """An update; if it is skipped, the networks' buffers are put back to what they were before it."""
        keepers = [self._keeper(name) for name in networks] if skips_updates(optim_wrapper) else []
        for keeper in keepers:
            keeper.keep()
        yield
        if was_skipped(optim_wrapper):
            for keeper in keepers:
                keeper.put_back()

    def _keeper(self, name: str) -> BufferKeeper:
        if name not in self._keepers:
            self._keepers[name] = BufferKeeper(unwrap(getattr(self, name)))
        return self._keepers[name]

    def _make_fake(self, generator: nn.Module, num_samples: int) -> tuple[Tensor, Tensor | None]:
        label = self.draw_label(num_samples)
        images = generator(self.draw_noise(num_samples), label=label)
        return images.contiguous(memory_format=self.memory_format(self.discriminator)), label

    def _judge_both(self, real: Tensor, real_label: Tensor, fake: Tensor, fake_label: Tensor | None) -> tuple:
        """D's pairs of logits and class logits for real and for fake images."""
        if not self.judges_together:
            return tuple(
                _logits_and_classes(self.discriminator(images, label))
                for images, label in ((real, real_label), (fake, fake_label))
            )
        label = None if fake_label is None else torch.cat([real_label, fake_label])
        logits, classes = _logits_and_classes(self.discriminator(torch.cat([real, fake]), label))
        sizes = [len(real), len(fake)]
        real_classes, fake_classes = (None, None) if classes is None else classes.split(sizes)
        real_logits, fake_logits = logits.split(sizes)
        return (real_logits, real_classes), (fake_logits, fake_classes)

    def _count_iteration(self) -> int:
        if self._iteration is None:
            self._iteration = int(self.iteration)
        self._iteration += 1
        self.iteration.fill_(self._iteration)
        return self._iteration


def _logits_and_classes(output: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor | None]:
    """The logits of what a discriminator says, and those of the classes, if it says them."""
    return output if isinstance(output, tuple) else (output, None)


@contextmanager
def _without_weight_gradients(network: nn.Module) -> Iterator[None]:
    """No gradients for the network's weights, only through it."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _num_parts(batch_size: int, optim_wrapper: OptimWrapper) -> int:
    """How many parts an update's batch is done in."""
    parts = optim_wrapper._accumulative_counts
    if batch_size % parts:
        raise ConfigError(
            f'the batch of {batch_size} images cannot be worked off in accumulative_counts={parts} equal '
            'parts; make train_dataloader.batch_size a multiple of it'
        )
    return parts


def _finite(logs: dict[str, Tensor]) -> dict[str, Tensor]:
    """What can be logged without spoiling the means that are shown."""
    return {key: value for key, value in logs.items() if value.isfinite()}


def _mean_logs(logs: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {key: torch.stack([log[key].detach() for log in logs]).mean() for key in logs[0]}
