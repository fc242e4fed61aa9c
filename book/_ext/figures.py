"""Give every figure of the built pages a form for the dark theme, and its size before it is loaded.

Figures are drawn on transparent ground, at twice the pixels. Grays are turned around for the dark theme
and hues stay: a color means the same in both. A palette of 256 colors makes a file a third as large.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from sphinx.application import Sphinx

IMAGE = re.compile(
    r'<img (?P<before>[^>]*)src="(?P<source>[^"]*_images/[^"]*\.png)"(?P<after>[^>]*)>'
)
LIGHT, DARK = 0.9, 0.07  # what black and white become: text and ground of the dark theme


def darken(pixels: np.ndarray) -> np.ndarray:
    """Grays (h w 4) with their lightness turned around; hues only a little lighter."""
    color = pixels[..., :3] / 255
    chroma = np.ptp(color, axis=-1, keepdims=True)
    hue = np.clip((chroma - 0.02) / 0.06, 0, 1)  # edges of letters lie between gray and hue
    turned = LIGHT + (DARK - LIGHT) * color.mean(axis=-1, keepdims=True)
    lifted = color + 0.12 * (1 - color)
    dark = hue * lifted + (1 - hue) * turned
    return np.concatenate([(255 * dark).round().astype(np.uint8), pixels[..., 3:]], axis=-1)


def write(pixels: np.ndarray, path: Path) -> None:
    image = Image.fromarray(pixels).quantize(256, method=Image.Quantize.FASTOCTREE)
    image.save(path, optimize=True)


def pair(path: Path) -> tuple[int, int]:
    """Write the dark form beside a figure; width and height in pixels of the page."""
    with Image.open(path) as image:
        size = image.size
        drawn = image.mode != "P"  # else it was reduced by an earlier build
        pixels = np.asarray(image.convert("RGBA"))
    if drawn:
        write(darken(pixels), path.with_suffix(".dark.png"))
        write(pixels, path)
    return round(size[0] / 2), round(size[1] / 2)


def add_dark_figures(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    images = Path(app.outdir) / "_images"
    sizes = cache(pair)

    def both(match: re.Match[str]) -> str:
        source = match["source"]
        width, height = sizes(images / source.rpartition("/")[2])
        classes = re.search(r'class="([^"]*)"', match[0])
        if classes and "only-" in classes[1]:
            return match[0]
        rest = re.sub(r'class="[^"]*"', "", match["before"] + match["after"].rstrip("/ "))
        kept = f"{classes[1]} " if classes else ""
        return "".join(
            f'<img class="{kept}only-{theme}" src="{file}" loading="lazy" width="{width}" '
            f'height="{height}" {rest.strip()}/>'
            for theme, file in [("light", source), ("dark", source[: -len(".png")] + ".dark.png")]
        )

    for path in Path(app.outdir).rglob("*.html"):
        text = path.read_text()
        if (new := IMAGE.sub(both, text)) != text:
            path.write_text(new)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", add_dark_figures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
