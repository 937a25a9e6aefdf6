"""The conditional GAN: two networks, two update steps, one moving average, and sampling."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn

from mmsagan.errors import ConfigError
from mmsagan.models.ema import GeneratorEMA
from mmsagan.registry import MODELS
from mmsagan.utils.modules import unwrap


@MODELS.register_module()
class ConditionalGAN(BaseModel):
    """A class-conditional GAN trained by alternating updates; ``SAGAN`` and ``SNGAN`` differ in their networks only.

    One iteration is one update of D on one batch. Every ``discriminator_steps``-th iteration ends with ``generator_steps``
    updates of G. Fake labels are uniform. The networks are called as ``generator(noise, label=label)`` and
    ``discriminator(images, label)``, and get ``num_classes`` where their configs do not state it.

    Accumulation: with ``accumulative_counts=k`` in an optimizer wrapper, the batch of an update is done in k parts, whose
    mean gradient is applied once, so iterations keep their meaning: 4 GPUs with 64 images each become one GPU with
    ``batch_size=256`` and ``accumulative_counts=4``. Batch norms see one part at a time, as without SyncBN, and spectral norms
    do a power iteration for every part.

    Args:
        generator: Config of G.
        discriminator: Config of D.
        data_preprocessor: Config of the preprocessor.
        num_classes: Number of classes; None takes it from the networks.
        gan_loss: Config of the adversarial loss.
        auxiliary_loss: Config of the loss on the classes that D sees, for a D that says them (AC-GAN); else None.
        generator_steps: Updates of G in a row.
        discriminator_steps: Updates of D for one such row (``dist_step``).
        noise_size: Length of a noise vector; None takes the generator's.
        ema_config: Arguments of :class:`~mmsagan.models.ema.GeneratorEMA`; None for no moving average.
        channels_last: Whether the networks' weights and activations lie in memory channels-last.

    Raises:
        ConfigError: The parts disagree on the number of classes, the image size, the noise size, or on whether D classifies.

    Example:
        >>> gan = ConditionalGAN(
        ...     generator=dict(type='SAGANGenerator', output_scale=32, base_channels=16),
        ...     discriminator=dict(type='ProjDiscriminator', input_scale=32, base_channels=16),
        ...     num_classes=10)
        >>> gan.sample(label=torch.arange(10)).shape
        torch.Size([10, 3, 32, 32])
    """

    def __init__(
        self,
        generator: dict,
        discriminator: dict,
        data_preprocessor: dict = dict(type='DataPreprocessor'),
        num_classes: int | None = None,
        gan_loss: dict = dict(type='HingeGANLoss'),
        auxiliary_loss: dict | None = None,
        generator_steps: int = 1,
        discriminator_steps: int = 1,
        noise_size: int | None = None,
        ema_config: dict | None = None,
        channels_last: bool = False,
    ):
        super().__init__(data_preprocessor=MODELS.build(data_preprocessor))
        if generator_steps < 1 or discriminator_steps < 1:
            raise ConfigError(
                f'generator_steps and discriminator_steps must be at least 1, got {generator_steps} and {discriminator_steps}'
            )
        self.num_classes = agree_on_num_classes(num_classes, generator, discriminator)
        self.generator = MODELS.build(generator, default_args=dict(num_classes=self.num_classes))
        self.discriminator = MODELS.build(discriminator, default_args=dict(num_classes=self.num_classes))
        self.noise_size = noise_size or self.generator.noise_size
        self._check_networks_match()
        self.gan_loss = MODELS.build(gan_loss)
        self.auxiliary_loss = MODELS.build(auxiliary_loss) if auxiliary_loss else None
        self._check_classifier()
        self.generator_steps = generator_steps
        self.discriminator_steps = discriminator_steps
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.generator.to(memory_format=self.memory_format)
        self.discriminator.to(memory_format=self.memory_format)
        self.ema = GeneratorEMA(**ema_config) if ema_config else None
        self.generator_ema = GeneratorEMA.make_copy(self.generator) if ema_config else None
        # Iterations done. Part of the checkpoint, since the schedule and the EMA's start depend on it; mirrored in a Python
        # number, so that reading it does not wait for a GPU.
        self.register_buffer('iteration', torch.zeros((), dtype=torch.long))
        self._iteration: int | None = None

    def _check_networks_match(self) -> None:
        sizes = [getattr(self.generator, 'output_scale', None), getattr(self.discriminator, 'input_scale', None)]
        if None not in sizes and sizes[0] != sizes[1]:
            raise ConfigError(f'model.generator.output_scale={sizes[0]} but model.discriminator.input_scale={sizes[1]}')
        if self.noise_size != getattr(self.generator, 'noise_size', self.noise_size):
            raise ConfigError(f'model.noise_size={self.noise_size} but model.generator.noise_size={self.generator.noise_size}')

    def _check_classifier(self) -> None:
        classifies = getattr(self.discriminator, 'classifies', False)
        if classifies != (self.auxiliary_loss is not None):
            raise ConfigError(
                f'model.discriminator {type(self.discriminator).__name__} {"says" if classifies else "does not say"} classes: '
                + (
                    "set model.auxiliary_loss=dict(type='AuxiliaryClassificationLoss')"
                    if classifies
                    else 'remove model.auxiliary_loss'
                )
            )

    def init_weights(self) -> None:
        """Fills both networks' weights by their init schemes."""
        # The runner calls this after it has put both into DDP.
        for network in (unwrap(self.generator), unwrap(self.discriminator)):
            if hasattr(network, 'init_weights'):
                network.init_weights()
        if self.generator_ema is not None:
            self.generator_ema.load_state_dict(unwrap(self.generator).state_dict())

    # ------------------------------------------------------------------------------------------------------- training

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
                if self.ema is not None:
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
            ``logits_real`` and ``logits_fake``.
        """
        parts = _num_parts(len(images), optim_wrapper)
        images = images.contiguous(memory_format=self.memory_format)
        logs = []
        for real, real_label in zip(images.chunk(parts), label.chunk(parts)):
            with optim_wrapper.optim_context(self.discriminator):
                fake_label = self.draw_label(len(real))
                with torch.no_grad():
                    fake = unwrap(self.generator)(self.draw_noise(len(real)), label=fake_label)
                real_logits, real_classes = _logits_and_classes(self.discriminator(real, real_label))
                fake_logits, fake_classes = _logits_and_classes(self.discriminator(fake, fake_label))
                loss_real, loss_fake = self.gan_loss.discriminator_loss(real_logits, fake_logits)
                losses = dict(loss_disc_real=loss_real, loss_disc_fake=loss_fake)
                if self.auxiliary_loss is not None:
                    losses['loss_disc_class'] = self.auxiliary_loss.discriminator_loss(
                        real_classes, real_label, fake_classes, fake_label
                    )
                loss = sum(losses.values())
            optim_wrapper.update_params(loss)
            logs.append(dict(loss_disc=loss, **losses, logits_real=real_logits.mean(), logits_fake=fake_logits.mean()))
        return _mean_logs(logs)

    def train_generator(self, batch_size: int, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Updates G once, on ``batch_size`` fake images.

        Returns:
            ``loss_gen``, and with a classifying D its part ``loss_gen_class``.
        """
        parts = _num_parts(batch_size, optim_wrapper)
        part_size = batch_size // parts
        # D only passes the gradient on here. Unwrapped, since DDP would wait for gradients of its weights.
        discriminator = unwrap(self.discriminator)
        logs = []
        with _frozen(discriminator):
            for _ in range(parts):
                with optim_wrapper.optim_context(self.generator):
                    label = self.draw_label(part_size)
                    fake = self.generator(self.draw_noise(part_size), label=label)
                    logits, classes = _logits_and_classes(discriminator(fake, label))
                    loss, losses = self.gan_loss.generator_loss(logits), {}
                    if self.auxiliary_loss is not None:
                        losses['loss_gen_class'] = self.auxiliary_loss.generator_loss(classes, label)
                        loss = loss + losses['loss_gen_class']
                optim_wrapper.update_params(loss)
                logs.append(dict(loss_gen=loss, **losses))
        return _mean_logs(logs)

    def _count_iteration(self) -> int:
        if self._iteration is None:
            self._iteration = int(self.iteration)
        self._iteration += 1
        self.iteration.fill_(self._iteration)
        return self._iteration

    def state_dict(self, *args, **kwargs) -> dict[str, Tensor]:
        """The state, under the same keys whether or not the networks are in DDP wrappers.

        MMEngine saves it as it is and loads into the networks inside their wrappers.
        """
        state = super().state_dict(*args, **kwargs)
        wrapped = tuple(f'{name}.module.' for name, child in self.named_children() if is_model_wrapper(child))
        for key in list(state):
            value = state.pop(key)
            state[key.replace('.module.', '.', 1) if key.startswith(wrapped) else key] = value
        return state

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._iteration = None

    def train(self, mode: bool = True) -> 'ConditionalGAN':
        """Sets training or evaluation mode; the moving average always stays in evaluation mode."""
        super().train(mode)
        if self.generator_ema is not None:
            self.generator_ema.eval()
        return self

    # ------------------------------------------------------------------------------------------------------- sampling

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.generator.parameters()).device

    def draw_noise(self, num_samples: int) -> Tensor:
        """Standard normal noise (num_samples, noise_size)."""
        return torch.randn(num_samples, self.noise_size, device=self.device)

    def draw_label(self, num_samples: int) -> Tensor | None:
        """Uniform classes (num_samples,); None for an unconditional GAN."""
        if not self.num_classes:
            return None
        return torch.randint(self.num_classes, (num_samples,), device=self.device)

    @torch.no_grad()
    def sample(
        self,
        noise: Tensor | None = None,
        label: Tensor | None = None,
        num_samples: int = 1,
        sample_model: str | None = None,
    ) -> Tensor:
        """Makes images in evaluation mode.

        Args:
            noise: (N, noise_size); None draws it.
            label: Classes (N,), or class weights (N, num_classes), floating point, which mix the classes' embeddings; None
                draws classes.
            num_samples: N, when neither noise nor label is given.
            sample_model: ``'ema'`` or ``'orig'``; None takes the moving average if there is one.

        Returns:
            Images (N, 3, S, S), float in [-1, 1].

        Raises:
            ConfigError: ``'ema'`` is asked for and there is none, or the labels are refused by :meth:`check_label`.
        """
        if noise is None:
            noise = self.draw_noise(num_samples if label is None else len(label))
        if label is None:
            label = self.draw_label(len(noise))
        else:
            self.check_label(label, len(noise))
            label = label.to(self.device)
        network = self.sampled_network(sample_model)
        was_training = network.training
        network.eval()
        images = network(noise.to(self.device), label=label)
        network.train(was_training)
        return images

    def check_label(self, label: Tensor, num_samples: int) -> None:
        """Refuses labels that do not fit the model.

        Args:
            label: Classes (N,), or class weights (N, num_classes), floating point.
            num_samples: N.

        Raises:
            ConfigError: There are not N of them, a class is out of range, or the weights are for another number of classes.
        """
        if len(label) != num_samples:
            raise ConfigError(f'{len(label)} labels for {num_samples} noise vectors')
        known = f'{self.num_classes} classes, 0 to {self.num_classes - 1}' if self.num_classes else 'no classes: give no labels'
        if label.is_floating_point():
            if not label.isfinite().all():
                raise ConfigError('class weights must be finite')
            if label.shape[1:] != (self.num_classes,):
                raise ConfigError(
                    f'class weights must be of shape (N, num_classes), got {tuple(label.shape)}, and the model has {known}'
                )
        elif len(label) and not 0 <= int(label.min()) <= int(label.max()) < self.num_classes:
            raise ConfigError(f'label out of range: {int(label.min())} to {int(label.max())}, but the model has {known}')

    def sampled_network(self, sample_model: str | None = None) -> nn.Module:
        """The generator that ``sample_model`` (``'ema'``, ``'orig'`` or None) names."""
        if sample_model not in (None, 'ema', 'orig'):
            raise ConfigError(f"sample_model must be 'ema' or 'orig', got {sample_model!r}")
        if sample_model == 'ema' and self.generator_ema is None:
            raise ConfigError("sample_model='ema', but the model keeps no moving average; set model.ema_config")
        use_ema = self.generator_ema is not None and sample_model != 'orig'
        return self.generator_ema if use_ema else unwrap(self.generator)

    def forward(self, *args, **kwargs) -> Tensor:
        """The same as :meth:`sample`."""
        return self.sample(*args, **kwargs)


def agree_on_num_classes(num_classes: int | None, generator: dict, discriminator: dict) -> int:
    """The number of classes that the parts of a config state.

    Raises:
        ConfigError: They differ, or none of them says it.
    """
    stated = {
        'model.num_classes': num_classes,
        'model.generator.num_classes': generator.get('num_classes'),
        'model.discriminator.num_classes': discriminator.get('num_classes'),
    }
    stated = {key: value for key, value in stated.items() if value is not None}
    if not stated:
        raise ConfigError('the number of classes is missing: set model.num_classes (0 for an unconditional GAN)')
    if len(set(stated.values())) > 1:
        raise ConfigError(
            'the parts disagree on the number of classes: ' + ', '.join(f'{key}={value}' for key, value in stated.items())
        )
    return next(iter(stated.values()))


def _logits_and_classes(output: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor | None]:
    """The logits of what a discriminator says, and those of the classes, if it says them."""
    return output if isinstance(output, tuple) else (output, None)


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
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
    parts = optim_wrapper._accumulative_counts
    if batch_size % parts:
        raise ConfigError(
            f'the batch of {batch_size} images cannot be worked off in accumulative_counts={parts} equal '
            'parts; make train_dataloader.batch_size a multiple of it'
        )
    return parts


def _mean_logs(logs: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {key: torch.stack([log[key].detach() for log in logs]).mean() for key in logs[0]}
