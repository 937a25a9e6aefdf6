"""The discriminators: one ResNet, two ways to use the class."""

from collections.abc import Mapping, Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmsagan.errors import ConfigError
from mmsagan.models.layers.blocks import ClassEmbedding, LayerFactory, check_counts, insert_attention, select_scale
from mmsagan.models.layers.init import get_init_scheme, initialize
from mmsagan.registry import MODELS


class ResNetDiscriminator(BaseModule):
    """Base of the discriminators: images (N, 3, S, S) -> features h (N, C) and the logit w . h + b.

    head block -> residual blocks, with attention after chosen ones -> ReLU -> sum over space = h.

    Args:
        input_scale: S, in pixels: 32, 64 or 128, or any size with ``channels_cfg`` and ``downsample_cfg``.
        num_classes: Number of classes; 0 for none.
        base_channels: Channels after the head block; the other widths are multiples of it.
        input_channels: Channels of the image.
        attention_cfg: Config of the attention block; None for no attention.
        attention_after_nth_block: The block, or blocks, that attention follows, the head block being the first; 0 for none.
        channels_cfg: Output width of each later block as a multiple of ``base_channels``: a list, or lists by ``input_scale``.
        downsample_cfg: Whether each later block halves the size, likewise.
        from_rgb_cfg, blocks_cfg: Configs of the head block, and of the later blocks.
        act_cfg: Config of the activation; for ``inplace`` see :class:`~mmsagan.models.layers.blocks.DiscriminatorBlock`.
        with_spectral_norm, sn_eps: Whether layers are spectrally normalized, and by which epsilon.
        init_cfg: ``dict(type=NAME)``, a scheme of :mod:`mmsagan.models.layers.init`.
        freeze_blocks: Number of blocks, with attention after them, that are not trained, as in FreezeD (Mo et al. 2020).
    """

    fast = True
    has_aux_classifier = False
    default_channels = {32: [1, 1, 1], 64: [2, 4, 8, 16], 128: [2, 4, 8, 16, 16]}
    default_downsample = {32: [True, False, False], 64: [True, True, True, True], 128: [True, True, True, True, False]}

    def __init__(
        self,
        input_scale: int,
        num_classes: int = 0,
        base_channels: int = 128,
        input_channels: int = 3,
        attention_cfg: dict | None = dict(type='SelfAttentionBlock'),
        attention_after_nth_block: int | Sequence[int] = -1,
        channels_cfg: Sequence[int] | Mapping[int, Sequence[int]] | None = None,
        downsample_cfg: Sequence[bool] | Mapping[int, Sequence[bool]] | None = None,
        from_rgb_cfg: dict = dict(type='DiscriminatorHeadBlock'),
        blocks_cfg: dict = dict(type='DiscriminatorBlock'),
        act_cfg: dict = dict(type='ReLU'),
        with_spectral_norm: bool = True,
        sn_eps: float = 1e-12,
        init_cfg: dict = dict(type='studio'),
        freeze_blocks: int = 0,
    ):
        super().__init__()
        self.init_scheme = get_init_scheme(init_cfg)
        check_counts(base_channels=base_channels, input_channels=input_channels)
        check_counts(0, num_classes=num_classes, freeze_blocks=freeze_blocks)
        factors = select_scale('input_scale', input_scale, self.default_channels, channels_cfg)
        downsample = select_scale('input_scale', input_scale, self.default_downsample, downsample_cfg)
        if len(factors) != len(downsample):
            found = f'channels_cfg has {len(factors)} and downsample_cfg {len(downsample)}'
            raise ConfigError(f'{found} entries; they must be equally many')
        self.input_scale = input_scale
        self.input_channels = input_channels
        self.num_classes = num_classes
        layers = LayerFactory(with_spectral_norm, with_spectral_norm, sn_eps, act_cfg=act_cfg)
        widths = [base_channels * factor for factor in (1, *factors)]
        self.from_rgb = MODELS.build(dict(from_rgb_cfg, in_channels=input_channels, out_channels=base_channels, layers=layers))
        blocks = [
            MODELS.build(dict(blocks_cfg, in_channels=i, out_channels=o, layers=layers, downsample=down))
            for i, o, down in zip(widths, widths[1:], downsample)
        ]
        if freeze_blocks > len(widths):
            raise ConfigError(f'freeze_blocks={freeze_blocks}, but the discriminator has {len(widths)} blocks')
        blocks.insert(0, self.from_rgb)
        modules, attention_indices = insert_attention(
            blocks, widths, attention_cfg, attention_after_nth_block, with_spectral_norm=with_spectral_norm, sn_eps=sn_eps
        )
        for index, module in enumerate(modules):
            module.requires_grad_(index + 1 - sum(attention <= index for attention in attention_indices) > freeze_blocks)
        self.conv_blocks = modules[1:]
        self.activation = layers.activation()
        self.decision = layers.normalize(nn.Linear(widths[-1], 1))
        self.add_class_head(layers, widths[-1])

    def add_class_head(self, layers: LayerFactory, num_features: int) -> None:
        """Adds the layers that use the class; implemented by each discriminator."""
        raise NotImplementedError

    def features(self, image: Tensor) -> Tensor:
        """Computes h (N, C), float32, of images (N, input_channels, S, S) in [-1, 1]."""
        x = self.from_rgb(image)
        for block in self.conv_blocks:
            x = block(x)
        return self.activation(x.float()).sum(dim=(2, 3))

    def init_weights(self) -> None:
        initialize(self, self.init_scheme)


@MODELS.register_module()
class ProjDiscriminator(ResNetDiscriminator):
    """ResNet discriminator with class projection: images (N, 3, S, S), labels (N,) -> logits (N, 1).

    The logit is w . h + b + <embedding(label), h>. Source: Miyato & Koyama 2018; the paper, section 5. Takes the arguments of
    :class:`ResNetDiscriminator`; ``num_classes=0`` means no projection.

    Example:
        >>> discriminator = ProjDiscriminator(32, num_classes=10, base_channels=16)
        >>> discriminator(torch.rand(2, 3, 32, 32), torch.tensor([3, 5])).shape
        torch.Size([2, 1])
    """

    def add_class_head(self, layers: LayerFactory, num_features: int) -> None:
        self.proj_y = layers.normalize(ClassEmbedding(self.num_classes, num_features)) if self.num_classes else None

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """Computes logits (N, 1), float32, of images (N, input_channels, S, S) in [-1, 1]; higher ones are more real.

        Labels are classes (N,), or class weights (N, num_classes), floating point; None if there are no classes.
        """
        features = self.features(image)
        # In full precision, so that bfloat16 does not round the logits; the head costs next to nothing.
        with torch.autocast(device_type=features.device.type, enabled=False):
            logits = self.decision(features)
            if self.proj_y is not None:
                logits = logits + (self.proj_y(label) * features).sum(dim=1, keepdim=True)
        return logits


@MODELS.register_module()
class ACDiscriminator(ResNetDiscriminator):
    """ResNet discriminator with an auxiliary classifier: images (N, 3, S, S) -> logits (N, 1) and class logits (N, classes).

    Both are linear in the features h. The GAN needs an ``auxiliary_loss``. Source: Odena et al. 2017 (AC-GAN). Takes the
    arguments of :class:`ResNetDiscriminator`; raises a ConfigError if ``num_classes`` is 0.
    """

    has_aux_classifier = True

    def add_class_head(self, layers: LayerFactory, num_features: int) -> None:
        if self.num_classes < 1:
            raise ConfigError('ACDiscriminator needs classes: set model.num_classes')
        self.classifier = layers.normalize(nn.Linear(num_features, self.num_classes))

    def forward(self, image: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Computes logits (N, 1) and class logits (N, num_classes) of images (N, input_channels, S, S); ignores the label."""
        features = self.features(image)
        with torch.autocast(device_type=features.device.type, enabled=False):
            return self.decision(features), self.classifier(features)
