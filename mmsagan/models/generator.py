"""The class-conditional ResNet generator."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmsagan.errors import ConfigError
from mmsagan.models.layers.blocks import LayerFactory, check_counts, insert_attention, select_scale
from mmsagan.models.layers.init import get_init_scheme, initialize
from mmsagan.registry import MODELS


@MODELS.register_module()
class SAGANGenerator(BaseModule):
    """ResNet generator with conditional batch norm and self-attention: noise (N, noise_size) -> images (N, 3, S, S).

    noise -> linear -> 4x4 -> one up-block per doubling -> BN-ReLU-conv3x3-tanh. Source: the paper, section 5, and the code of
    the published runs. ``SNGANGenerator`` is the same network.

    Args:
        output_scale: S, in pixels: 32, 64 or 128, or any ``input_scale * 2 ** blocks`` with ``channels_cfg``.
        num_classes: Number of classes; 0 for an unconditional generator.
        base_channels: Channels before the image layer; the other widths are multiples of it.
        out_channels: Channels of the image.
        input_scale, noise_size: Size of the first feature map, in pixels, and length of a noise vector.
        attention_cfg: Config of the attention block; None for no attention.
        attention_after_nth_block: The up-block, or up-blocks, that attention follows, counted from 1; 0 for none.
        channels_cfg: Input width of each up-block as a multiple of ``base_channels``: a list, or lists by ``output_scale``.
        blocks_cfg: Config of the up-block; it gets ``in_channels``, ``out_channels`` and ``layers``.
        act_cfg: Config of the activation; ``inplace`` is ignored.
        use_cbn: Whether batch norms are conditional on the class.
        noise_in_norms: Whether conditional batch norms depend on the noise, too, as in BigGAN (Brock et al. 2019).
        auto_sync_bn: Whether batch norms span all processes of distributed training on GPUs.
        with_spectral_norm: Whether layers are spectrally normalized.
        with_embedding_spectral_norm: Whether class embeddings are; None follows ``with_spectral_norm``.
        norm_eps, sn_eps: Epsilons of the batch norms, and of the spectral norms.
        init_cfg: ``dict(type=NAME)``, a scheme of :mod:`mmsagan.models.layers.init`.
        rgb_to_bgr: Ignored; accepted for MMagic's configs. See :class:`~mmsagan.models.data_preprocessor.DataPreprocessor`.

    Example:
        >>> generator = SAGANGenerator(32, num_classes=10, base_channels=16)
        >>> generator(torch.randn(2, 128), label=torch.tensor([3, 5])).shape
        torch.Size([2, 3, 32, 32])
    """

    fast = True
    default_channels = {32: [1, 1, 1], 64: [16, 8, 4, 2], 128: [16, 16, 8, 4, 2]}

    def __init__(
        self,
        output_scale: int,
        num_classes: int = 0,
        base_channels: int = 64,
        out_channels: int = 3,
        input_scale: int = 4,
        noise_size: int = 128,
        attention_cfg: dict | None = dict(type='SelfAttentionBlock'),
        attention_after_nth_block: int | Sequence[int] = 0,
        channels_cfg: Sequence[int] | Mapping[int, Sequence[int]] | None = None,
        blocks_cfg: dict = dict(type='GeneratorBlock'),
        act_cfg: dict = dict(type='ReLU'),
        use_cbn: bool = True,
        noise_in_norms: bool = False,
        auto_sync_bn: bool = True,
        with_spectral_norm: bool = False,
        with_embedding_spectral_norm: bool | None = None,
        norm_eps: float = 1e-4,
        sn_eps: float = 1e-12,
        init_cfg: dict = dict(type='studio'),
        rgb_to_bgr: bool = False,
    ):
        super().__init__()
        self.init_scheme = get_init_scheme(init_cfg)
        check_counts(base_channels=base_channels, out_channels=out_channels, input_scale=input_scale, noise_size=noise_size)
        check_counts(0, num_classes=num_classes)
        factors = select_scale('output_scale', output_scale, self.default_channels, channels_cfg)
        if noise_in_norms and not (num_classes and use_cbn):
            raise ConfigError('noise_in_norms needs conditional batch norms: classes, and use_cbn=True')
        size = input_scale * 2 ** len(factors)
        if size != output_scale:
            raise ConfigError(f'{len(factors)} up-blocks (channels_cfg) make {input_scale=} into {size}, not {output_scale=}')
        self.output_scale = output_scale
        self.num_classes = num_classes
        self.input_scale = input_scale
        self.noise_size = noise_size
        self.noise_in_norms = noise_in_norms
        if with_embedding_spectral_norm is None:
            with_embedding_spectral_norm = with_spectral_norm
        layers = LayerFactory(
            with_spectral_norm=with_spectral_norm,
            with_embedding_spectral_norm=with_embedding_spectral_norm,
            sn_eps=sn_eps,
            num_classes=num_classes if use_cbn else 0,
            noise_size=noise_size if noise_in_norms else 0,
            norm_eps=norm_eps,
            sync_bn=auto_sync_bn,
            cbn_weight_offset=self.init_scheme.cbn_weight_offset,
            act_cfg=act_cfg,
        )
        widths = [base_channels * factor for factor in (*factors, 1)]
        self.noise2feat = layers.normalize(nn.Linear(noise_size, widths[0] * input_scale**2))
        pairs = zip(widths, widths[1:])
        blocks = [MODELS.build(dict(blocks_cfg, in_channels=i, out_channels=o, layers=layers)) for i, o in pairs]
        self.conv_blocks, self._attention_indices = insert_attention(
            blocks, widths[1:], attention_cfg, attention_after_nth_block, with_spectral_norm=with_spectral_norm, sn_eps=sn_eps
        )
        conv = layers.normalize(nn.Conv2d(widths[-1], out_channels, 3, padding=1))
        self.to_rgb = nn.Sequential(OrderedDict(bn=layers.batch_norm(widths[-1]), activation=layers.activation(), conv=conv))

    def forward(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        """Generates images (N, out_channels, S, S), float in [-1, 1].

        Noise (N, noise_size) is standard normal. Labels are classes (N,), or class weights (N, num_classes), floating point, by
        which the classes' embeddings are mixed; None for an unconditional generator.
        """
        x = self.noise2feat(noise).unflatten(1, (-1, self.input_scale, self.input_scale))
        if self.fast:
            x = x.contiguous(memory_format=torch.channels_last)
        condition = (label, noise) if self.noise_in_norms else (label,)
        for index, block in enumerate(self.conv_blocks):
            x = block(x) if index in self._attention_indices else block(x, *condition)
        return torch.tanh(self.to_rgb(x).float())

    def init_weights(self) -> None:
        initialize(self, self.init_scheme, image_layer=self.to_rgb[-1])
