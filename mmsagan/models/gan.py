"""The conditional GAN: its training step, and sampling."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar, cast

import torch
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmsagan.errors import ConfigError
from mmsagan.models.ema import GeneratorEMA
from mmsagan.models.layers.blocks import check_configs, check_counts, set_fast
from mmsagan.models.layers.spectral_norm import NetworkSpectralNorm, fold_spectral_norm, run_power_iterations
from mmsagan.models.regularizers import DiscriminatorUpdate, Regularizer, Update
from mmsagan.registry import MODELS

_SHORT = dict(generator='gen', discriminator='disc')  # in names of losses
Network = TypeVar('Network', bound=nn.Module)


@MODELS.register_module()
class ConditionalGAN(BaseModel):
    """A class-conditional GAN trained by alternating updates; ``SAGAN`` and ``SNGAN`` differ in their networks only.

    Networks get the argument ``num_classes``; calls are ``generator(noise, label=label)`` and ``discriminator(images, label)``.

    Args:
        generator, discriminator, data_preprocessor: Configs of G, of D and of the preprocessor.
        num_classes: Number of classes, 0 for an unconditional GAN; None takes it from the networks' configs.
        gan_loss: Config of the adversarial loss.
        auxiliary_loss: Config of the class loss, for a discriminator with an auxiliary classifier (AC-GAN); else None.
        augment: Config of a differentiable augmentation of all images that D sees, see :mod:`mmsagan.models.augment`; or None.
        regularizers: Configs of losses that are added to those above, by their names in the log, see
            :mod:`mmsagan.models.regularizers`; None removes an inherited one.
        generator_steps, discriminator_steps: Updates of G in a row, and of D per row (``dist_step``), one in each iteration.
        noise_size: Length of a noise vector; None takes the generator's.
        ema_config: Arguments of :class:`~mmsagan.models.ema.GeneratorEMA`; None for no moving average.
        fast: Whether to compute the same functions faster: with the networks' fast layers, channels-last, and in one pass of D
            over real and fake images. False is the reference, as in the published runs: D sees the fake images, then the real
            ones, with a power iteration of its spectral norms each. The joint pass comes after two iterations, so that sigma
            is that of the second for both. Networks without an attribute ``fast`` are unaffected.
        compile_cfg: Arguments of ``torch.compile`` for both networks in training, by default ``dynamic=False``; None: not used.
        init_from: What a training starts from, see :class:`~mmsagan.checkpoints.transfer.InitFrom`. The runner reads it.

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
        augment: dict | None = None,
        regularizers: Mapping[str, dict | None] = {},
        generator_steps: int = 1,
        discriminator_steps: int = 1,
        noise_size: int | None = None,
        ema_config: dict | None = None,
        fast: bool = True,
        compile_cfg: dict | None = None,
        init_from: dict | None = None,
    ):
        super().__init__(data_preprocessor=MODELS.build(data_preprocessor))
        check_counts(generator_steps=generator_steps, discriminator_steps=discriminator_steps)
        optional = {'augment': augment, **{f'regularizers.{name}': cfg for name, cfg in regularizers.items()}}
        check_configs(generator=generator, discriminator=discriminator, **{key: cfg for key, cfg in optional.items() if cfg})
        choices = [num_classes, generator.get('num_classes'), discriminator.get('num_classes')]
        if len(set(choices) - {None}) != 1:
            keys = ('model.num_classes', 'model.generator.num_classes', 'model.discriminator.num_classes')
            found = ', '.join(f'{key}={value}' for key, value in zip(keys, choices))
            raise ConfigError(f'set model.num_classes (0 for an unconditional GAN), and no other value elsewhere; got {found}')
        self.num_classes = next(value for value in choices if value is not None)
        self.generator = MODELS.build(generator, default_args=dict(num_classes=self.num_classes))
        self.discriminator = MODELS.build(discriminator, default_args=dict(num_classes=self.num_classes))
        self.noise_size = noise_size or self.generator.noise_size
        self.gan_loss = MODELS.build(gan_loss)
        self.auxiliary_loss = MODELS.build(auxiliary_loss) if auxiliary_loss else None
        self.augment = MODELS.build(augment) if augment else None
        if self.augment is not None and type(self.augment).forward is nn.Module.forward:
            raise ConfigError(f'model.augment: {type(self.augment).__name__} does not map images to images')
        self.regularizers = nn.ModuleDict({name: MODELS.build(cfg) for name, cfg in regularizers.items() if cfg})
        for name, module in self.regularizers.items():
            if not isinstance(module, Regularizer):
                raise ConfigError(f'model.regularizers.{name}: {type(module).__name__} is not a Regularizer')
            if name in ('real', 'fake', 'class'):  # as in loss_disc_real, which it would replace
                raise ConfigError(f'model.regularizers.{name}: the log has a loss of this name already; choose another name')
        sizes = [getattr(self.generator, 'output_scale', None), getattr(self.discriminator, 'input_scale', None)]
        if None not in sizes and sizes[0] != sizes[1]:
            raise ConfigError(f'model.generator.output_scale={sizes[0]} but model.discriminator.input_scale={sizes[1]}')
        if self.noise_size != getattr(self.generator, 'noise_size', self.noise_size):
            raise ConfigError(f'model.noise_size={self.noise_size} but model.generator.noise_size={self.generator.noise_size}')
        if getattr(self.discriminator, 'has_aux_classifier', False) != (self.auxiliary_loss is not None):
            raise ConfigError(
                'model.auxiliary_loss belongs to a discriminator with an auxiliary classifier, such as ACDiscriminator, and '
                f'to no other; got {self.auxiliary_loss} with {type(self.discriminator).__name__}'
            )
        self.generator_steps = generator_steps
        self.discriminator_steps = discriminator_steps
        self.init_from = init_from
        self.fast = fast
        self.is_compiled = compile_cfg is not None
        set_fast(self, fast)
        for network in (self.generator, self.discriminator):
            network.to(memory_format=self.memory_format(network))
            NetworkSpectralNorm(network)
        self._discriminator_has_batch_norm = any(isinstance(layer, _BatchNorm) for layer in self.discriminator.modules())
        self.ema = GeneratorEMA(**ema_config) if ema_config else None
        self.generator_ema = copy.deepcopy(self.generator).eval().requires_grad_(False) if ema_config else None
        if compile_cfg is not None:
            with torch._dynamo.config.patch(wrap_top_frame=True):  # one graph with the hooks, instead of one for each
                for network in (self.generator, self.discriminator):
                    network.compile(**{'dynamic': False, **compile_cfg})
        # Iterations done, on which the schedule and the start of the moving average depend. A buffer, so that checkpoints have
        # it, mirrored in a Python number, so that reading it does not wait for the GPU.
        self.register_buffer('iteration', torch.zeros((), dtype=torch.long))
        self._iteration: int | None = None
        self.register_load_state_dict_post_hook(lambda model, _: setattr(model, '_iteration', None))
        self._inference_copies: dict[nn.Module, nn.Module] | None = None
        self._inference_amp = False

    def memory_format(self, network: nn.Module) -> torch.memory_format:
        """Returns the memory format of a network's weights and images: channels-last if it has fast layers and uses them."""
        return torch.channels_last if self.fast and hasattr(unwrap(network), 'fast') else torch.contiguous_format

    @property
    def uses_joint_discriminator_pass(self) -> bool:
        """Whether D gets real and fake images in one batch; not if it has batch norms, which would mix their statistics."""
        return self.fast and hasattr(unwrap(self.discriminator), 'fast') and not self._discriminator_has_batch_norm

    def init_weights(self) -> None:
        """Initializes both networks by their init schemes, and the moving average with G."""
        # The runner calls this after it has wrapped both networks in DDP.
        for network in (unwrap(self.generator), unwrap(self.discriminator)):
            if hasattr(network, 'init_weights'):
                network.init_weights()
        if self.generator_ema is not None:
            self.generator_ema.load_state_dict(unwrap(self.generator).state_dict())

    def state_dict(self, *args, **kwargs) -> dict[str, Tensor]:
        """Returns the state, under the same keys whether or not the networks are wrapped in DDP."""
        state = super().state_dict(*args, **kwargs)
        wrapped = tuple(f'{name}.module.' for name, child in self.named_children() if is_model_wrapper(child))
        for key in list(state):
            value = state.pop(key)
            state[key.replace('.module.', '.', 1) if key.startswith(wrapped) else key] = value
        return state

    def train(self, mode: bool = True) -> 'ConditionalGAN':
        """Sets training or evaluation mode; the moving average always stays in evaluation mode."""
        super().train(mode)
        if self.generator_ema is not None:
            self.generator_ema.eval()
        return self

    # ------------------------------------------------------------------------------------------------------------ training

    def train_step(self, data: dict, optim_wrapper: OptimWrapperDict) -> dict[str, Tensor]:
        """Runs one iteration: an update of D and, in every ``discriminator_steps``-th one, the updates of G.

        Returns losses and mean logits to log, scalars on the device.

        With ``accumulative_counts=k`` in an optimizer wrapper, the batch of an update is split into k parts, whose mean
        gradient is applied once. Batch norms see one part at a time, and spectral norms run their power iterations per part.

        An update that its optimizer wrapper skips, because the loss or a gradient is not finite, leaves the networks unchanged;
        the iteration counts, and the moving average takes the unchanged weights once more.

        Args:
            data: Batch of real images, see :class:`~mmsagan.models.data_preprocessor.DataPreprocessor`.
            optim_wrapper: Optimizer wrappers ``generator`` and ``discriminator``.
        """
        real = self.data_preprocessor(data, True)
        batch_size = len(real['inputs'])
        for name, wrapper in optim_wrapper.items():
            if batch_size % wrapper._accumulative_counts:
                raise ConfigError(
                    f'optim_wrapper.{name}.accumulative_counts={wrapper._accumulative_counts} does not divide the batch of '
                    f'{batch_size} images; set train_dataloader.batch_size to a multiple of it'
                )

        if self._iteration is None:  # after construction or loading
            self._iteration = int(self.iteration)
        logs = self.train_discriminator(real['inputs'], real['labels'], optim_wrapper['discriminator'])

        self._iteration += 1
        self.iteration.fill_(self._iteration)

        if self._iteration % self.discriminator_steps == 0:
            updates_before = (self._iteration // self.discriminator_steps - 1) * self.generator_steps
            for step in range(1, self.generator_steps + 1):
                logs.update(self.train_generator(batch_size, optim_wrapper['generator']))
                if self.ema is not None and self.generator_ema is not None:
                    self.ema.update(self.generator_ema, unwrap(self.generator), self._iteration, updates_before + step)
        return logs

    def train_discriminator(self, images: Tensor, label: Tensor, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Updates D once, on real images (N, 3, S, S), float in [-1, 1], and on as many fake ones of uniform classes.

        Returns ``loss_disc``, its parts ``loss_disc_real``, ``loss_disc_fake``, with an auxiliary classifier
        ``loss_disc_class`` and those of the regularizers, the means ``logits_real`` and ``logits_fake``, their difference
        ``logits_gap``, and what the augmentation logs.
        """
        if self.is_compiled:  # CUDA graphs may reuse the memory of earlier updates, and of no tensor of this one
            torch.compiler.cudagraph_mark_step_begin()
        num_parts = optim_wrapper._accumulative_counts
        images = images.contiguous(memory_format=self.memory_format(self.discriminator))
        joint_pass = self.uses_joint_discriminator_pass
        logs, seen = [], []
        with self._restore_buffers_if_skipped(optim_wrapper):
            for part, (real, real_label) in enumerate(zip(images.chunk(num_parts), label.chunk(num_parts))):
                if joint_pass:  # the first of its two power iterations, outside autocast
                    run_power_iterations(unwrap(self.discriminator), 1)
                with optim_wrapper.optim_context(self.discriminator):
                    with torch.no_grad():
                        fake_label = self.draw_label(len(real))
                        fake = unwrap(self.generator)(self.draw_noise(len(real)), label=fake_label)
                        fake = fake.contiguous(memory_format=self.memory_format(self.discriminator))
                        if self.augment is not None:
                            real, fake = self.augment(real), self.augment(fake)
                    if joint_pass:
                        both_labels = None if fake_label is None else torch.cat([real_label, fake_label])
                        logits, classes = _discriminate(self.discriminator, torch.cat([real, fake]), both_labels)
                        real_logits, fake_logits = logits.split(len(real))
                        real_classes, fake_classes = (None, None) if classes is None else classes.split(len(real))
                    else:
                        fake_logits, fake_classes = _discriminate(self.discriminator, fake, fake_label)
                        real_logits, real_classes = _discriminate(self.discriminator, real, real_label)

                    loss_real, loss_fake = self.gan_loss.discriminator_loss(real_logits, fake_logits)
                    losses = dict(loss_disc_real=loss_real, loss_disc_fake=loss_fake)
                    if self.auxiliary_loss is not None:
                        losses['loss_disc_class'] = self.auxiliary_loss.discriminator_loss(
                            real_classes, real_label, fake_classes, fake_label
                        )
                    images_seen = fake, fake_label, fake_logits, real, real_label, real_logits
                    update = DiscriminatorUpdate(self, self._iteration or 0, part, num_parts, *images_seen)
                    losses |= self._regularize('discriminator', update)
                    loss = sum(losses.values())
                optim_wrapper.update_params(loss)
                logs.append(dict(loss_disc=loss, **losses, logits_real=real_logits.mean(), logits_fake=fake_logits.mean()))
                seen.append(real_logits.detach())
            adapt = getattr(self.augment, 'adapt', None)
            adapted = adapt(torch.cat(seen), self._iteration or 0) if adapt else {}
        mean = _mean(logs)
        return dict(mean, logits_gap=mean['logits_real'] - mean['logits_fake'], **adapted)

    def train_generator(self, batch_size: int, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Updates G once, on ``batch_size`` fake images of uniform classes.

        Returns ``loss_gen``, with an auxiliary classifier its part ``loss_gen_class``, and those of the regularizers.
        """
        if self.is_compiled:  # CUDA graphs may reuse the memory of earlier updates, and of no tensor of this one
            torch.compiler.cudagraph_mark_step_begin()
        num_parts = optim_wrapper._accumulative_counts
        # D only passes the gradient on. It is unwrapped, since DDP would wait for the gradients of its weights.
        discriminator = unwrap(self.discriminator)
        logs = []
        with self._restore_buffers_if_skipped(optim_wrapper), _without_weight_gradients(discriminator):
            for part in range(num_parts):
                with optim_wrapper.optim_context(self.generator):
                    label = self.draw_label(batch_size // num_parts)
                    fake = self.generator(self.draw_noise(batch_size // num_parts), label=label)
                    fake = fake.contiguous(memory_format=self.memory_format(discriminator))
                    if self.augment is not None:
                        fake = self.augment(fake)
                    logits, classes = _discriminate(discriminator, fake, label)
                    losses = {}
                    if self.auxiliary_loss is not None:
                        losses['loss_gen_class'] = self.auxiliary_loss.generator_loss(classes, label)
                    update = Update(self, self._iteration or 0, part, num_parts, fake, label, logits)
                    losses |= self._regularize('generator', update)
                    loss = self.gan_loss.generator_loss(logits) + sum(losses.values())
                optim_wrapper.update_params(loss)
                logs.append(dict(loss_gen=loss, **losses))
        return _mean(logs)

    def discriminate(self, images: Tensor, label: Tensor | None) -> Tensor:
        """Computes D's logits (N, 1) of further images in an update, for a regularizer, in a pass apart from DDP's."""
        return _discriminate(unwrap(self.discriminator), images, label)[0]

    def _regularize(self, network: str, update: Update) -> dict[str, Tensor]:
        """Losses of the regularizers that are due, each ``interval`` times its value, by their names in the log."""
        losses, number = {}, update.iteration
        if network == 'generator':
            number //= self.discriminator_steps
        for name, module in self.regularizers.items():
            regularizer = cast(Regularizer, module)
            if number % regularizer.interval == 0:
                loss = getattr(regularizer, f'{network}_loss')(update)
                if loss is not None:
                    losses[f'loss_{_SHORT[network]}_{name}'] = regularizer.weight * regularizer.interval * loss
        return losses

    @contextmanager
    def _restore_buffers_if_skipped(self, optim_wrapper: OptimWrapper) -> Iterator[None]:
        """Restores the buffers of what is trained with if the optimizer wrapper skips the update made within.

        Forward passes in training mode change running statistics and singular vectors, where a NaN would stay forever.
        """
        groups: dict[torch.dtype, list[Tensor]] = {}
        for module in (unwrap(self.generator), unwrap(self.discriminator), self.augment, self.regularizers):
            for buffer in module.buffers() if module is not None else ():
                groups.setdefault(buffer.dtype, []).append(buffer)
        saved = [torch.cat([buffer.flatten() for buffer in buffers]) for buffers in groups.values()]
        yield
        found_inf = getattr(optim_wrapper, 'found_inf', None)
        if found_inf is None:  # MMEngine's own wrappers never skip
            return
        for before, buffers in zip(saved, groups.values()):  # few kernels, and no reading of found_inf
            kept = torch.where(found_inf.bool(), before, torch.cat([buffer.flatten() for buffer in buffers]))
            parts = kept.split([buffer.numel() for buffer in buffers])
            torch._foreach_copy_(buffers, [part.view_as(buffer) for part, buffer in zip(parts, buffers)])

    # ------------------------------------------------------------------------------------------------------------ sampling

    @property
    def device(self) -> torch.device:
        return next(self.generator.parameters()).device

    def draw_noise(self, num_samples: int) -> Tensor:
        """Draws standard normal noise (num_samples, noise_size)."""
        return torch.randn(num_samples, self.noise_size, device=self.device)

    def draw_label(self, num_samples: int) -> Tensor | None:
        """Draws uniform classes (num_samples,); None for an unconditional GAN."""
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
        """Generates images (N, 3, S, S), float in [-1, 1], in evaluation mode.

        Args:
            noise: (N, noise_size); drawn if None.
            label: Classes (N,), or floating-point class weights (N, num_classes), which mix their embeddings; drawn if None.
            num_samples: N, if neither noise nor label is given.
            sample_model: ``'ema'`` or ``'orig'``; None takes the moving average if there is one.
        """
        if noise is None:
            noise = self.draw_noise(num_samples if label is None else len(label))
        if label is None:
            label = self.draw_label(len(noise))
        else:
            self.check_label(label, len(noise))
            label = label.to(self.device)
        noise = noise.to(self.device)
        network = self.get_generator(sample_model)
        if self._inference_copies is None:
            was_training = network.training
            network.eval()
            images = network._call_impl(noise, label=label)  # not compiled, for any batch size, into memory of its own
            network.train(was_training)
            return images
        if network not in self._inference_copies:
            folded = fold_spectral_norm(copy.deepcopy(network)).eval().requires_grad_(False)
            for module in folded.modules() if self._inference_amp else ():
                if isinstance(module, (nn.Conv2d, nn.Linear)):  # which autocast would round in every call
                    module.weight.data = module.weight.data.bfloat16()
            self._inference_copies[network] = folded
        with torch.autocast(noise.device.type, dtype=torch.bfloat16, enabled=self._inference_amp):
            return self._inference_copies[network](noise, label=label)

    def forward(self, *args, **kwargs) -> Tensor:
        return self.sample(*args, **kwargs)

    @contextmanager
    def inference_copy(self, amp: bool = False) -> Iterator[None]:
        """Makes :meth:`sample` faster for many batches: it uses copies of the generators, made at their first use.

        Their weights are divided by sigma once. With ``amp=True`` they compute in bfloat16, and images differ slightly.
        """
        outer = self._inference_copies, self._inference_amp
        self._inference_copies, self._inference_amp = {}, amp
        try:
            yield
        finally:
            self._inference_copies, self._inference_amp = outer

    def get_generator(self, sample_model: str | None = None) -> nn.Module:
        """Returns the generator that ``sample_model`` selects: ``'ema'``, ``'orig'``, or None as in :meth:`sample`."""
        if sample_model not in (None, 'ema', 'orig'):
            raise ConfigError(f"sample_model must be 'ema' or 'orig', got {sample_model!r}")
        if sample_model == 'ema' and self.generator_ema is None:
            raise ConfigError("sample_model='ema', but the model has no moving average; set model.ema_config")
        if self.generator_ema is not None and sample_model != 'orig':
            return self.generator_ema
        return unwrap(self.generator)

    def check_label(self, label: Tensor, num_samples: int) -> None:
        """Raises a ConfigError if labels, or class weights, do not fit the model or the number of samples."""
        if len(label) != num_samples:
            raise ConfigError(f'{len(label)} labels for {num_samples} noise vectors')
        if label.is_floating_point():
            if label.shape[1:] != (self.num_classes,) or not label.isfinite().all():
                shape = tuple(label.shape)
                raise ConfigError(f'class weights must be finite and of shape (N, {self.num_classes}), got the shape {shape}')
        elif len(label) and not 0 <= int(label.min()) <= int(label.max()) < self.num_classes:
            found = f'{int(label.min())} to {int(label.max())}'
            raise ConfigError(f'label out of range: {found}, but the model has {self.num_classes} classes, counted from 0')


def unwrap(network: Network) -> Network:
    """Returns the network itself, without the DDP wrapper it may be in."""
    return cast(Network, network.module) if is_model_wrapper(network) else network


def _discriminate(discriminator: nn.Module, images: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Returns a discriminator's logits, and class logits if it has an auxiliary classifier."""
    output = discriminator(images, label)
    return output if isinstance(output, tuple) else (output, None)


def _mean(logs: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Means of the logged values over the parts of an accumulated update."""
    if len(logs) == 1:
        return {key: value.detach() for key, value in logs[0].items()}
    return {key: torch.stack([log[key].detach() for log in logs]).mean() for key in logs[0]}


@contextmanager
def _without_weight_gradients(network: nn.Module) -> Iterator[None]:
    """Computes no gradients of the network's weights, only of its inputs."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
