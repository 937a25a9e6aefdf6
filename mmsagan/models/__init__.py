"""The mathematics: networks, losses, update steps. Nothing here knows of a runner, a hook or a file."""

from mmsagan.models.augment import ADA, Augment, DiffAugment
from mmsagan.models.data_preprocessor import DataPreprocessor, to_uint8
from mmsagan.models.discriminator import ACDiscriminator, ProjDiscriminator
from mmsagan.models.ema import GeneratorEMA
from mmsagan.models.gan import ConditionalGAN
from mmsagan.models.generator import SAGANGenerator
from mmsagan.models.layers.attention import ResidualAttentionSubstitute, SelfAttentionBlock
from mmsagan.models.losses import (
    AuxiliaryClassificationLoss,
    GANLoss,
    HingeGANLoss,
    LeastSquaresGANLoss,
    MultiHingeLoss,
    NonSaturatingGANLoss,
    WassersteinGANLoss,
)
from mmsagan.models.regularizers import (
    R1,
    ConsistencyRegularization,
    GradientPenalty,
    LeCam,
    OrthogonalRegularization,
    Regularizer,
    TopK,
)
