"""Pictures made small: pages load faster, and nobody sees the difference."""

import io
import shutil
from pathlib import Path

from PIL import Image

THUMBNAIL = 320  # pixels across


def small_png(content: bytes, width: int | None = None) -> bytes:
    """A PNG with the same picture in at most 256 colours, ``width`` pixels across at most; never a larger one."""
    with Image.open(io.BytesIO(content)) as image:
        picture = image.convert("RGB")
    if width and picture.width > width:
        picture = picture.resize((width, round(picture.height * width / picture.width)))
    file = io.BytesIO()
    picture.quantize(256, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue() if width else min(file.getvalue(), content, key=len)


def keep_figures(made: Path, kept: Path) -> list[str]:
    """Move a chapter's figures to the folder of downloads, PNGs made small and with a thumbnail; return their names."""
    names = sorted(file.name for file in made.iterdir())
    (kept / "thumbnails").mkdir(parents=True, exist_ok=True)
    for name in names:
        if name.endswith(".png"):
            content = (made / name).read_bytes()
            (kept / name).write_bytes(small_png(content))
            (kept / "thumbnails" / name).write_bytes(small_png(content, THUMBNAIL))
        else:
            shutil.move(made / name, kept / name)
    return names
