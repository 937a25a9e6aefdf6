"""Data sets, one file each, and the transforms that feed them to a network."""

from mmsagan.datasets.arrays import ArrayDataset, StoredDataset
from mmsagan.datasets.base import ClassImageDataset, UnreadableImageError
from mmsagan.datasets.batches import ReadyBatch, collate_batch
from mmsagan.datasets.cifar import CIFAR10
from mmsagan.datasets.folder import ImageFolder, ImageNet
from mmsagan.datasets.mnist import EmbeddedMNIST, FashionMNIST
from mmsagan.datasets.packed import PackedImages
from mmsagan.datasets.transforms import CenterCropLongEdge, LoadImageFromFile, PackInputs, RandomCropLongEdge

__all__ = [
    'ArrayDataset',
    'CIFAR10',
    'CenterCropLongEdge',
    'ClassImageDataset',
    'EmbeddedMNIST',
    'FashionMNIST',
    'ImageFolder',
    'ImageNet',
    'LoadImageFromFile',
    'PackInputs',
    'PackedImages',
    'RandomCropLongEdge',
    'ReadyBatch',
    'StoredDataset',
    'UnreadableImageError',
    'collate_batch',
]
