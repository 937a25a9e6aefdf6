"""One place that knows how a network's layers are made, so that its blocks need not pass the settings on."""

from dataclasses import dataclass, field

from mmcv.cnn import build_activation_layer
from torch import nn

from mmsagan.models.layers.arguments import check_configs
from mmsagan.models.layers.embedding import ClassEmbedding
from mmsagan.models.layers.norm import ConditionalBatchNorm2d, build_batch_norm
from mmsagan.models.layers.resample import DownsampleConv2d, UpsampleConv2d
from mmsagan.models.layers.spectral_norm import normalized


@dataclass(frozen=True)
class LayerFactory:
    """Builds the layers of one network with that network's settings.

    A network makes one and hands it to its blocks as ``layers``.

    Args:
        with_spectral_norm: Whether convolutions and linear layers are spectrally normalized.
        with_embedding_spectral_norm: The same for class embeddings.
        sn_eps: See :class:`~mmsagan.models.layers.spectral_norm.SpectralNorm`.
        num_classes: Rows of the class embeddings; 0 makes every norm unconditional.
        norm_eps: Added to the variance in batch norms.
        sync_bn: Whether batch norms span all processes.
        cbn_weight_offset: See :class:`~mmsagan.models.layers.norm.ConditionalBatchNorm2d`.
        act_cfg: Config of the activation. ``inplace=True`` has a meaning of its own in
            :class:`~mmsagan.models.layers.residual.DiscriminatorBlock` and none elsewhere: no layer here works in place.
    """

    with_spectral_norm: bool = True
    with_embedding_spectral_norm: bool = True
    sn_eps: float = 1e-12
    num_classes: int = 0
    norm_eps: float = 1e-4
    sync_bn: bool = False
    cbn_weight_offset: float = 1.0
    act_cfg: dict = field(default_factory=lambda: dict(type='ReLU'))

    def __post_init__(self) -> None:
        check_configs(act_cfg=self.act_cfg)

    def conv(self, in_channels: int, out_channels: int, kernel_size: int = 3) -> nn.Module:
        """A convolution that keeps the size."""
        return self._normalized(nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2))

    def upsample_conv(self, in_channels: int, out_channels: int) -> nn.Module:
        """Upsampling and a 3x3 convolution."""
        return self._normalized(UpsampleConv2d(in_channels, out_channels))

    def downsample_conv(self, in_channels: int, out_channels: int) -> nn.Module:
        """A 3x3 convolution and average pooling."""
        return self._normalized(DownsampleConv2d(in_channels, out_channels))

    def linear(self, in_features: int, out_features: int) -> nn.Module:
        """A fully connected layer."""
        return self._normalized(nn.Linear(in_features, out_features))

    def embedding(self, num_embeddings: int, num_features: int) -> ClassEmbedding:
        """A class embedding, for labels and for class weights."""
        return normalized(ClassEmbedding(num_embeddings, num_features), self.with_embedding_spectral_norm, self.sn_eps)

    def batch_norm(self, num_channels: int, affine: bool = True) -> nn.Module:
        """An unconditional batch norm."""
        return build_batch_norm(num_channels, self.norm_eps, affine, self.sync_bn)

    def conditional_norm(self, num_channels: int) -> nn.Module:
        """A batch norm conditional on the class."""
        return ConditionalBatchNorm2d(
            self.batch_norm(num_channels, affine=False),
            self.embedding(self.num_classes, num_channels),
            self.embedding(self.num_classes, num_channels),
            self.cbn_weight_offset,
        )

    def activation(self) -> nn.Module:
        """The activation, never in place."""
        return build_activation_layer({k: v for k, v in self.act_cfg.items() if k != 'inplace'})

    @property
    def inplace_activation(self) -> bool:
        """Whether the config asks for the function that an in-place activation has in the reference code."""
        return bool(self.act_cfg.get('inplace', False))

    def _normalized(self, layer: nn.Module) -> nn.Module:
        return normalized(layer, self.with_spectral_norm, self.sn_eps)


def set_fast(network: nn.Module, fast: bool) -> nn.Module:
    """Has a network compute the fast way, as it does when it is built, or the plain one; its weights stay as they are.

    Both are the same function. Modules that know two ways have an attribute ``fast``, True in their class.

    Returns:
        The same network.
    """
    for module in network.modules():
        if hasattr(module, 'fast'):
            setattr(module, 'fast', fast)  # noqa: B010  # torch's types allow tensors and modules only
    return network
