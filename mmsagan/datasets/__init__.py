"""Data sets, one per file, and the transforms between them and a network."""

from mmsagan.datasets.cifar import CIFAR10
from mmsagan.datasets.hub import HuggingFaceDataset
from mmsagan.datasets.image_folder import ClassImageDataset, ImageFolder, ImageNet, UnreadableImageError
from mmsagan.datasets.mnist import ArrayDataset, EmbeddedMNIST, FashionMNIST, NpzImages, StoredDataset
from mmsagan.datasets.packed import PackedImages
from mmsagan.datasets.transforms import CenterCropLongEdge, LoadImageFromFile, PackInputs, RandomCropLongEdge, collate_batch
