"""Small copies of pictures."""

import io

from PIL import Image

from laclip_ray.data.image_formats import ImageError, ImageLimits
from laclip_ray.data.pictures import open_rgb

SIDE_PX = 240
"""Of the longer side: twice the size on the page."""
_QUALITY = 72


def thumbnail(content: bytes, limits: ImageLimits, exif: bool) -> bytes | None:
    """A picture as a small JPEG; None if it cannot be decoded."""
    try:
        picture = open_rgb(content, limits, exif)
    except ImageError:
        return None
    picture.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
