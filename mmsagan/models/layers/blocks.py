"""The layers and residual blocks of both networks, and how blocks and attention are put in a row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from mmcv.cnn import build_activation_layer
from mmengine.device import is_cuda_available
from mmengine.dist import is_distributed
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmsagan.errors import ConfigError
from mmsagan.models.layers.spectral_norm import Layer, spectral_norm
from mmsagan.registry import MODELS

MOST_CHANNELS = 1 << 20  # a layer with more does not fit into any memory


def check_counts(least: int = 1, **counts) -> None:
    """Raises a ConfigError that names the first argument that is not an integer from ``least`` to :data:`MOST_CHANNELS`."""
    for name, count in counts.items():
        if not isinstance(count, int) or not least <= count <= MOST_CHANNELS:
            raise ConfigError(f'{name} must be a whole number from {least} to {MOST_CHANNELS}, got {count!r:.100}')


def check_configs(**configs) -> None:
    """Raises a ConfigError that names the first argument that is not a dict with a ``type``."""
    for name, config in configs.items():
        if not isinstance(config, Mapping) or 'type' not in config:
            raise ConfigError(f'{name} must be a dict(type=...), got {config!r:.100}')


def set_fast(network: nn.Module, fast: bool) -> nn.Module:
    """Switches a network to the fast or the plain implementation of its layers, and returns it.

    Modules with two implementations of the same function have an attribute ``fast``, which defaults to True.
    """
    for module in network.modules():
        if hasattr(module, 'fast'):
            setattr(module, 'fast', fast)  # noqa: B010  # torch's types allow tensors and modules only
    return network


class ClassEmbedding(nn.Embedding):
    """Embedding of classes and of mixed classes: labels (N,), or class weights (N, num_classes), -> (N, C).

    Integer labels are looked up. Floating-point labels are the weights of a sum over the classes' vectors.
    """

    def forward(self, label: Tensor) -> Tensor:
        if label.is_floating_point():
            return label.to(self.weight.dtype) @ self.weight
        return super().forward(label)


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm with a scale and a shift per class: (N, C, H, W), labels (N,) -> (N, C, H, W).

    ``weight_offset`` is 1 where the embedding is the scale's deviation from 1 (init schemes ``studio`` and ``BigGAN``), 0 where
    it is the scale itself (``SAGAN`` and ``SNGAN``). With a ``noise_size``, linear maps of the noise (N, noise_size) are added.
    """

    def __init__(
        self,
        norm: nn.Module,
        weight_embedding: nn.Embedding,
        bias_embedding: nn.Embedding,
        weight_offset: float = 1.0,
        noise_size: int = 0,
    ):
        super().__init__()
        self.norm = norm
        self.weight_embedding = weight_embedding
        self.bias_embedding = bias_embedding
        self.weight_offset = weight_offset
        if noise_size:
            self.weight_noise = nn.Linear(noise_size, weight_embedding.embedding_dim, bias=False)
            self.bias_noise = nn.Linear(noise_size, bias_embedding.embedding_dim, bias=False)

    def forward(self, x: Tensor, label: Tensor, noise: Tensor | None = None) -> Tensor:
        weight = self.weight_offset + self.weight_embedding(label)
        bias = self.bias_embedding(label)
        if noise is not None:
            with torch.autocast(noise.device.type, enabled=False):  # casting takes longer than such small products
                noise = noise.to(self.weight_noise.weight.dtype)  # bfloat16 in copies for sampling
                weight, bias = weight + self.weight_noise(noise), bias + self.bias_noise(noise)
        return torch.addcmul(bias[:, :, None, None].to(x.dtype), self.norm(x), weight[:, :, None, None].to(x.dtype))


@dataclass(frozen=True)
class LayerFactory:
    """A network's settings of normalization and activation; every block of the network gets it as ``layers``.

    The fields are the networks' arguments. ``num_classes=0`` makes every norm unconditional; with a ``noise_size``, conditional
    ones depend on the noise, too. No layer works in place: ``act_cfg.inplace`` selects :class:`DiscriminatorBlock`'s shortcut.
    """

    with_spectral_norm: bool = True
    with_embedding_spectral_norm: bool = True
    sn_eps: float = 1e-12
    num_classes: int = 0
    noise_size: int = 0
    norm_eps: float = 1e-4
    sync_bn: bool = False
    cbn_weight_offset: float = 1.0
    act_cfg: dict = field(default_factory=lambda: dict(type='ReLU'))

    def normalize(self, layer: Layer) -> Layer:
        """Applies spectral normalization to a convolution, linear layer or embedding, if the network has it."""
        is_embedding = isinstance(layer, nn.Embedding)
        enabled = self.with_embedding_spectral_norm if is_embedding else self.with_spectral_norm
        return spectral_norm(layer, self.sn_eps, enabled)

    def batch_norm(self, num_channels: int, conditional: bool = False) -> nn.Module:
        """Builds a batch norm, or with ``conditional=True`` a :class:`ConditionalBatchNorm2d`."""
        # SyncBatchNorm has no CPU kernel: there, each process uses the statistics of its own batch.
        synchronized = self.sync_bn and is_distributed() and is_cuda_available()
        norm = (nn.SyncBatchNorm if synchronized else nn.BatchNorm2d)(num_channels, eps=self.norm_eps, affine=not conditional)
        if not conditional:
            return norm
        weight, bias = (self.normalize(ClassEmbedding(self.num_classes, num_channels)) for _ in range(2))
        return ConditionalBatchNorm2d(norm, weight, bias, self.cbn_weight_offset, self.noise_size)

    def activation(self) -> nn.Module:
        check_configs(act_cfg=self.act_cfg)
        return build_activation_layer({key: value for key, value in self.act_cfg.items() if key != 'inplace'})


# Of the two layers that change the size: convolving and averaging commute. Averaging over 2x2 pixels first, without skipping
# any, leaves a convolution that computes every second pixel only. Nearest-neighbour upsampling is the transpose: zeros between
# the pixels, which a transposed convolution skips, then a sum over 2x2. Both take a quarter of the multiplications. Merging the
# average into a 4x4 kernel takes 4/9 of them, and was slower on CPUs in nearly every layer of these networks.


class UpsampleConv2d(nn.Conv2d):
    """Nearest upsampling by 2, then a convolution of kernel size 3 and padding 1: (N, C, H, W) -> (N, out, 2H, 2W)."""

    fast = True

    def forward(self, x: Tensor) -> Tensor:
        if not self.fast:
            return super().forward(F.interpolate(x, scale_factor=2, mode='nearest'))
        kernel = self.weight.flip(2, 3).transpose(0, 1)
        out = box_filter(F.conv_transpose2d(x, kernel, stride=2), 0, 1)
        # oneDNN's transposed convolution in bfloat16 is five times slower with a bias.
        return out if self.bias is None else out.add_(self.bias.to(out.dtype)[:, None, None])


class DownsampleConv2d(nn.Conv2d):
    """A convolution of kernel size 3 and padding 1, then 2x2 average pooling: (N, C, H, W) -> (N, out, H // 2, W // 2)."""

    fast = True

    def forward(self, x: Tensor) -> Tensor:
        if not self.fast:
            return F.avg_pool2d(super().forward(x), 2)
        return F.conv2d(box_filter(x, 1, 4), self.weight, self.bias, stride=2)


class _BoxFilter(torch.autograd.Function):
    """``F.avg_pool2d(x, 2, stride=1, padding=padding, divisor_override=divisor)`` with a backward pass twice as fast."""

    @staticmethod
    def forward(ctx, x: Tensor, padding: int, divisor: int) -> Tensor:
        ctx.padding, ctx.divisor = padding, divisor
        return F.avg_pool2d(x, 2, stride=1, padding=padding, divisor_override=divisor)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        # The filter with padding and the one without are each other's transpose.
        return box_filter(grad, 1 - ctx.padding, ctx.divisor), None, None


box_filter = _BoxFilter.apply


class _Upsample(torch.autograd.Function):
    """Nearest upsampling by 2. Compiled by Inductor, the backward pass of ``F.interpolate`` can yield zeros in bfloat16."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode='nearest')

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return F.avg_pool2d(grad, 2, divisor_override=1)


upsample = _Upsample.apply


@MODELS.register_module()
class GeneratorBlock(BaseModule):
    """(cBN-ReLU-upsample-conv3x3-cBN-ReLU-conv3x3) + (upsample-conv1x1): (N, in, H, W) -> (N, out, 2H, 2W)."""

    fast = True

    def __init__(self, in_channels: int, out_channels: int, layers: LayerFactory):
        super().__init__()
        self.conditional = layers.num_classes > 0
        self.activation = layers.activation()
        self.norm_1 = layers.batch_norm(in_channels, self.conditional)
        self.conv_1 = layers.normalize(UpsampleConv2d(in_channels, out_channels, 3, padding=1))
        self.norm_2 = layers.batch_norm(out_channels, self.conditional)
        self.conv_2 = layers.normalize(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.shortcut = layers.normalize(nn.Conv2d(in_channels, out_channels, 1))

    def forward(self, x: Tensor, label: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        condition = (label, noise) if self.conditional else ()
        out = self.conv_1(self.activation(self.norm_1(x, *condition)))
        out = self.conv_2(self.activation(self.norm_2(out, *condition)))
        if self.fast:
            # A 1x1 convolution commutes with upsampling, and takes a quarter of the work before it.
            return out + upsample(self.shortcut(x))
        return out + self.shortcut(F.interpolate(x, scale_factor=2, mode='nearest'))


@MODELS.register_module()
class DiscriminatorBlock(BaseModule):
    """(ReLU-conv3x3-ReLU-conv3x3-avgpool) + (conv1x1-avgpool): (N, in, H, W) -> (N, out, H / 2, W / 2).

    In the reference code, an in-place first ReLU changes x before the shortcut reads it. This block makes that explicit instead
    of relying on aliasing: with ``act_cfg=dict(inplace=True)`` the shortcut reads ReLU(x), otherwise x.

    With ``downsample=False`` there is no pooling, and a convolution in the shortcut only if the channels change.
    """

    fast = True

    def __init__(self, in_channels: int, out_channels: int, layers: LayerFactory, downsample: bool = True):
        super().__init__()
        self.downsample = downsample
        self.shortcut_of_activation = bool(layers.act_cfg.get('inplace', False))
        self.activation = layers.activation()
        self.conv_1 = layers.normalize(nn.Conv2d(in_channels, out_channels, 3, padding=1))
        conv = DownsampleConv2d if downsample else nn.Conv2d
        self.conv_2 = layers.normalize(conv(out_channels, out_channels, 3, padding=1))
        has_conv = downsample or in_channels != out_channels
        self.shortcut = layers.normalize(nn.Conv2d(in_channels, out_channels, 1)) if has_conv else None

    def forward(self, x: Tensor) -> Tensor:
        activated = self.activation(x)
        out = self.conv_2(self.activation(self.conv_1(activated)))
        if self.shortcut_of_activation:
            x = activated
        if self.downsample and self.fast:
            # A 1x1 convolution commutes with averaging, and takes a quarter of the work after it.
            x = F.avg_pool2d(x, 2)
        if self.shortcut is not None:
            x = self.shortcut(x)
        if self.downsample and not self.fast:
            x = F.avg_pool2d(x, 2)
        return out + x


@MODELS.register_module()
class DiscriminatorHeadBlock(BaseModule):
    """The discriminator's first block, which reads the image: (conv3x3-ReLU-conv3x3-avgpool) + (avgpool-conv1x1)."""

    def __init__(self, in_channels: int, out_channels: int, layers: LayerFactory):
        super().__init__()
        self.activation = layers.activation()
        self.conv_1 = layers.normalize(nn.Conv2d(in_channels, out_channels, 3, padding=1))
        self.conv_2 = layers.normalize(DownsampleConv2d(out_channels, out_channels, 3, padding=1))
        self.shortcut = layers.normalize(nn.Conv2d(in_channels, out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_2(self.activation(self.conv_1(x))) + self.shortcut(F.avg_pool2d(x, 2))


def select_scale(name: str, scale: int, defaults: Mapping[int, Sequence], cfg: Mapping | Sequence | None) -> list:
    """Returns a network's setting of each block: ``cfg`` if it is a list, else the list at its resolution ``scale`` there.

    ``name`` is the network's argument for the resolution; ``defaults`` are used if ``cfg`` is None.
    """
    if cfg is not None and not isinstance(cfg, Mapping):
        return list(cfg)
    table = cfg or defaults
    if scale not in table:
        remedy = 'for another one set channels_cfg=[...] (and downsample_cfg=[...] of a discriminator), an entry for each block'
        raise ConfigError(f'{name}={scale} is not supported: known sizes are {", ".join(map(str, table))}; {remedy}')
    return list(table[scale])


def insert_attention(
    blocks: Sequence[nn.Module],
    widths: Sequence[int],
    attention_cfg: dict | None,
    after_nth_block: int | Sequence[int],
    **defaults,
) -> tuple[nn.ModuleList, set[int]]:
    """Returns a network's blocks with attention between them, and the indices of the attention blocks.

    It follows the blocks numbered ``after_nth_block``, counted from 1; 0 or less for none. ``widths`` are the channels of each
    block's output, ``defaults`` arguments of the attention block that its config can override.
    """
    numbers = [after_nth_block] if isinstance(after_nth_block, int) else list(after_nth_block)
    numbers = [number for number in numbers if number > 0] if attention_cfg else []
    if any(number > len(blocks) for number in numbers):
        raise ConfigError(f'attention_after_nth_block={after_nth_block}, but the blocks are numbered 1 to {len(blocks)}')
    modules, attention_indices = nn.ModuleList(), set()
    for number, (block, channels) in enumerate(zip(blocks, widths), 1):
        modules.append(block)
        if number in numbers:
            attention_indices.add(len(modules))
            modules.append(MODELS.build(dict(attention_cfg or {}), default_args=dict(in_channels=channels, **defaults)))
    return modules, attention_indices
