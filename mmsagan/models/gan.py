"""The conditional GAN: two networks, one moving average, and sampling."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.model import BaseModel, is_model_wrapper
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmsagan.errors import ConfigError
from mmsagan.models.ema import GeneratorEMA
from mmsagan.models.frozen import FrozenGenerators
from mmsagan.models.layers import set_fast
from mmsagan.models.layers.blocks import check_configs
from mmsagan.models.undo import BufferKeeper
from mmsagan.models.updates import AlternatingUpdates
from mmsagan.registry import MODELS
from mmsagan.utils.modules import unwrap


@MODELS.register_module()
class ConditionalGAN(AlternatingUpdates, BaseModel):
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
        fast: Compute the same functions the fast way: the networks' fast layers, weights and activations channels-last, and D
            judging real and fake images in one pass, with one power iteration. False: the plain way, which is the reference.
            Checkpoints are the same. Networks of another make stay as they are.
        compile_cfg: Arguments of ``torch.compile`` for both networks in training, ``{}`` for its defaults; None for no
            compilation.

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
        fast: bool = True,
        compile_cfg: dict | None = None,
    ):
        super().__init__(data_preprocessor=MODELS.build(data_preprocessor))
        if generator_steps < 1 or discriminator_steps < 1:
            raise ConfigError(
                f'generator_steps and discriminator_steps must be at least 1, got {generator_steps} and {discriminator_steps}'
            )
        check_configs(generator=generator, discriminator=discriminator)
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
        self.fast = fast
        set_fast(self, fast)
        for network in (self.generator, self.discriminator):
            network.to(memory_format=self.memory_format(network))
        self.ema = GeneratorEMA(**ema_config) if ema_config else None
        self.generator_ema = GeneratorEMA.make_copy(self.generator) if ema_config else None
        if compile_cfg is not None:
            self.generator.compile(**compile_cfg)
            self.discriminator.compile(**compile_cfg)
        # Iterations done. Part of the checkpoint, since the schedule and the EMA's start depend on it; mirrored in a Python
        # number, so that reading it does not wait for a GPU.
        self.register_buffer('iteration', torch.zeros((), dtype=torch.long))
        self._iteration: int | None = None
        self._frozen: FrozenGenerators | None = None
        self._keepers: dict[str, BufferKeeper] = {}

    def memory_format(self, network: nn.Module) -> torch.memory_format:
        """How a network's weights and images lie in memory; PyTorch's default for one that does not know the fast way."""
        return torch.channels_last if self.fast and hasattr(unwrap(network), 'fast') else torch.contiguous_format

    @property
    def judges_together(self) -> bool:
        """Whether D gets real and fake images in one batch: not if it may look at the batch, as batch norms do."""
        discriminator = unwrap(self.discriminator)
        looks_at_batch = any(isinstance(layer, _BatchNorm) for layer in discriminator.modules())
        return self.fast and hasattr(discriminator, 'fast') and not looks_at_batch

    def _check_networks_match(self) -> None:
        sizes = [getattr(self.generator, 'output_scale', None), getattr(self.discriminator, 'input_scale', None)]
        if None not in sizes and sizes[0] != sizes[1]:
            raise ConfigError(f'model.generator.output_scale={sizes[0]} but model.discriminator.input_scale={sizes[1]}')
        if self.noise_size != getattr(self.generator, 'noise_size', self.noise_size):
            raise ConfigError(f'model.noise_size={self.noise_size} but model.generator.noise_size={self.generator.noise_size}')

    def _check_classifier(self) -> None:
        classifies = getattr(self.discriminator, 'has_aux_classifier', False)
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
        if self._frozen is not None:
            return self._frozen(network, noise.to(self.device), label)
        was_training = network.training
        network.eval()
        images = network(noise.to(self.device), label=label)
        network.train(was_training)
        return images

    @contextmanager
    def frozen(self, amp: bool = False) -> Iterator[None]:
        """Within it, :meth:`sample` makes many batches faster, from copies of the generators as they are when first sampled.

        The copies' spectral norms are divided out once instead of for every batch.

        Args:
            amp: Compute in bfloat16 where it is precise enough. Images then differ slightly from float32's.

        Example:
            >>> with gan.frozen():
            ...     batches = [gan.sample(num_samples=64) for _ in range(10)]
        """
        outer, self._frozen = self._frozen, FrozenGenerators(amp)
        try:
            yield
        finally:
            self._frozen = outer

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
        if self.generator_ema is not None and sample_model != 'orig':
            return self.generator_ema
        return unwrap(self.generator)

    def forward(self, *args, **kwargs) -> Tensor:
        """The same as :meth:`sample`."""
        return self.sample(*args, **kwargs)


def agree_on_num_classes(num_classes: int | None, generator: dict, discriminator: dict) -> int:
    """The number of classes that the parts of a config state.

    Raises:
        ConfigError: They differ, or none of them says it.
    """
    places = {
        'model.num_classes': num_classes,
        'model.generator.num_classes': generator.get('num_classes'),
        'model.discriminator.num_classes': discriminator.get('num_classes'),
    }
    stated = {key: value for key, value in places.items() if value is not None}
    if not stated:
        raise ConfigError('the number of classes is missing: set model.num_classes (0 for an unconditional GAN)')
    if len(set(stated.values())) > 1:
        raise ConfigError(
            'the parts disagree on the number of classes: ' + ', '.join(f'{key}={value}' for key, value in stated.items())
        )
    return next(iter(stated.values()))
