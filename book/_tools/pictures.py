"""Pictures made small: pages load faster, and nobody sees the difference."""

import io
import re
from pathlib import Path

from PIL import Image

THUMBNAIL = 240  # pixels across


def small_png(content: bytes, width: int | None = None) -> bytes:
    """A PNG with the same picture in at most 256 colours, or in 64 at ``width`` pixels across; never a larger one."""
    with Image.open(io.BytesIO(content)) as image:
        picture = image.convert("RGB")
    if width and picture.width > width:
        picture = picture.resize((width, round(picture.height * width / picture.width)))
    file = io.BytesIO()
    picture.quantize(64 if width else 256, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue() if width else min(file.getvalue(), content, key=len)


def small_svg(content: bytes) -> bytes:
    """The same drawing without comments and indentation, its lines to a hundredth of a point."""
    bare = re.sub(rb"<!--.*?-->|^[ \t]+", b"", content, flags=re.DOTALL | re.MULTILINE)
    lines = re.sub(rb'(?<= d=")[^"]+', lambda line: re.sub(rb"(\.\d\d)\d+", rb"\1", line[0]), bare)
    return lines.replace(b"\n\n", b"\n")


def keep_figures(made: Path, kept: Path) -> list[str]:
    """Copy a chapter's figures to the folder of downloads, made small, PNGs with a thumbnail; return their names."""
    names = sorted(file.name for file in made.iterdir())
    (kept / "thumbnails").mkdir(parents=True, exist_ok=True)
    for name in names:
        content = (made / name).read_bytes()
        if name.endswith(".png"):
            (kept / name).write_bytes(small_png(content))
            (kept / "thumbnails" / name).write_bytes(small_png(content, THUMBNAIL))
        else:
            (kept / name).write_bytes(small_svg(content) if name.endswith(".svg") else content)
    return names
