"""Opening image files, whoever made them: known formats only, of a bounded size."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from mmsagan.datasets.base import UnreadableImageError

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.gif', '.tif', '.tiff', '.ppm', '.pgm')
# What files of these suffixes hold, whichever of them they have. Pillow knows more: PostScript, for one, which is a program.
FORMATS = ('JPEG', 'PNG', 'BMP', 'DIB', 'GIF', 'PPM', 'WEBP', 'TIFF')
# Some hundred bytes of a file can claim any size. This is where Pillow itself refuses, if nobody has told it otherwise: half a
# gigabyte, decoded. Pillow warns of half as many pixels, and would do so for every such image.
MAX_PIXELS = 178_956_970
warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)


@contextmanager
def open_image(path: str | Path) -> Iterator[Image.Image]:
    """Opens an image file by its content; of an animation or a file of several pages, the first one. Reads its header only.

    Raises:
        UnreadableImageError: The file is missing, damaged, of another format than :data:`FORMATS`, or has more than
            :data:`MAX_PIXELS`; or the block that decodes it raises nearly anything, as decoders of damaged files do.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if not 0 < image.width * image.height <= MAX_PIXELS:
                raise ValueError(f'it claims {image.width}x{image.height} pixels: not any, or more than {MAX_PIXELS}')
            yield image
    except MemoryError:
        raise  # says nothing about the file
    except Exception as error:  # of damaged Exif, for instance, a struct.error
        raise UnreadableImageError(str(path), str(error) or type(error).__name__) from error


def read_rgb(path: str | Path) -> np.ndarray:
    """Decodes an image file into RGB (H, W, 3) uint8, turned as its Exif says.

    Raises:
        UnreadableImageError: See :func:`open_image`.
    """
    with open_image(path) as image:
        return np.asarray(to_rgb(ImageOps.exif_transpose(image)))


def size_of(path: str | Path) -> tuple[int, int]:
    """Width and height of an image file, turned as its Exif says, from its header; a turned TIFF is decoded.

    Raises:
        UnreadableImageError: See :func:`open_image`.
    """
    with open_image(path) as image:
        # A PNG without Exif would be read to its end in search of it.
        has_exif = 'exif' in image.info or image.format == 'TIFF'
        if not has_exif or image.getexif().get(ExifTags.Base.Orientation) not in (5, 6, 7, 8):
            return image.size
        # Before they are decoded, some versions of Pillow give the size of TIFFs as it is after turning.
        return ImageOps.exif_transpose(image).size if image.format == 'TIFF' else image.size[::-1]


def to_rgb(image: Image.Image) -> Image.Image:
    """A Pillow image of any mode as RGB; transparency is laid on white, 16-bit grey is scaled to 8 bits."""
    if image.mode.startswith('I;16') or image.mode == 'I':
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if 'A' in image.getbands() or 'transparency' in image.info:
        image = image.convert('RGBA')
        return Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image).convert('RGB')
    return image.convert('RGB')
