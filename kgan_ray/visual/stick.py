"""Stick figures: contact sheets of poses over time, and animations.

A motion is (C, T, V) in metres, y up. Every figure is drawn at the same scale, so nothing is distorted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kgan_ray.settings import UserError
from kgan_ray.skeleton import SkeletonLayout

Titled = list[tuple[str, np.ndarray]]  # motions (C, T, V), each with its title
COLOURS = {"left": (31, 90, 180), "right": (205, 66, 40), "middle": (70, 70, 70)}
_BACKGROUND, _TEXT, _FLOOR = (255, 255, 255), (40, 40, 40), (225, 225, 225)
# Drawn so many times larger, then shrunk: Pillow draws no smooth lines.
_SMOOTH = 3
_WIDEST_TITLE = 200  # pixels of a contact sheet


def contact_sheet(
    rows: Titled, layout: SkeletonLayout, path: Path | str, *, num_poses: int = 8, cell: int = 110
) -> None:
    """Write a PNG: a row a motion, its title and `num_poses` poses from first to last, seen from the front."""
    if not rows:
        raise UserError(f"{path}: no motions to draw")
    scale = cell * 0.8 / max(_reach(motion) for _, motion in rows)
    titles = [_wrapped(title, _WIDEST_TITLE, _font(13)) for title, _ in rows]
    title_width = 12 + max(round(_font(13).getlength(line)) for title in titles for line in title.split("\n"))
    sheet = Image.new("RGB", (title_width + num_poses * cell, len(rows) * cell), _BACKGROUND)
    for number, (title, (_, motion)) in enumerate(zip(titles, rows, strict=True)):
        pen = ImageDraw.Draw(sheet)
        pen.text((8, (number + 0.5) * cell), title, fill=_TEXT, font=_font(13), anchor="lm")
        frames = np.linspace(0, motion.shape[1] - 1, num_poses).round().astype(int)
        figure = _Figure(motion, layout, cell, scale)
        for column, frame in enumerate(frames):
            sheet.paste(figure.draw(int(frame)), (title_width + column * cell, number * cell))
    sheet.save(path)


def animate(
    motions: Titled, layout: SkeletonLayout, path: Path | str, *, fps: int = 30, cell: int = 180, columns: int = 6
) -> None:
    """Write the motions side by side, each with its title: an animated GIF, or MP4 where FFmpeg is there.

    Raises UserError for another kind of file, for no motions, and for MP4 without FFmpeg.
    """
    path = Path(path)
    if not motions:
        raise UserError(f"{path}: no motions to draw")
    columns = min(columns, len(motions))
    scale = cell * 0.8 / max(_reach(motion) for _, motion in motions)
    figures = [_Figure(motion, layout, cell, scale, title) for title, motion in motions]
    frames = []
    for frame in range(max(motion.shape[1] for _, motion in motions)):
        picture = Image.new("RGB", (columns * cell, -(-len(figures) // columns) * cell), _BACKGROUND)
        for number, figure in enumerate(figures):
            place = number % columns * cell, number // columns * cell
            picture.paste(figure.draw(min(frame, figure.num_frames - 1)), place)
        frames.append(picture)
    if path.suffix == ".gif":
        palette = [frame.convert("P", palette=Image.Palette.ADAPTIVE, colors=32) for frame in frames]
        palette[0].save(path, save_all=True, append_images=palette[1:], duration=1000 / fps, loop=0)
    elif path.suffix == ".mp4":
        _write_mp4(frames, path, fps)
    else:
        raise UserError(f"{path}: found {path.suffix or 'no ending'}; accepted are .gif, .mp4 and .png")


def _write_mp4(frames: Sequence[Image.Image], path: Path, fps: int) -> None:
    import matplotlib.animation

    if not matplotlib.animation.FFMpegWriter.isAvailable():
        raise UserError(f"{path}: MP4 needs FFmpeg, which is not installed; .gif works without it")
    import matplotlib
    from matplotlib.figure import Figure

    width, height = frames[0].size
    canvas = Figure(figsize=(width / 100, height / 100), dpi=100)
    with matplotlib.rc_context():
        shown = canvas.add_axes((0, 0, 1, 1)).imshow(np.asarray(frames[0]), aspect="auto")
        canvas.axes[0].axis("off")
        writer = matplotlib.animation.FFMpegWriter(fps=fps)
        with writer.saving(canvas, str(path), dpi=100):
            for frame in frames:
                shown.set_data(np.asarray(frame))
                writer.grab_frame()


class _Figure:
    """Draws the frames of one motion into cells."""

    def __init__(
        self, motion: np.ndarray, layout: SkeletonLayout, cell: int, scale: float, title: str = ""
    ) -> None:
        self.cell, self.layout, self.title = cell, layout, _wrapped(title, cell - 8, _font(12))
        self.num_frames = motion.shape[1]
        across, up = motion[0], motion[1]  # (T, V)
        # The view follows the person sideways, not up and down; of two persons, the middle between them.
        middle = across[:, layout.roots].mean(axis=1)
        low, high = np.percentile(up, 1), np.percentile(up, 99)
        self.floor = cell * 0.93
        # A camera's x grows to its own left: mirrored, so that left and right are as a viewer sees them.
        self.x = cell / 2 - (across - middle[:, None]) * scale
        self.y = self.floor - (up - low) * scale - max(0.0, (cell * 0.84 - (high - low) * scale) / 2)
        self.width = max(2, round(cell / 55))

    def draw(self, frame: int) -> Image.Image:
        size = self.cell * _SMOOTH
        picture = Image.new("RGB", (size, size), _BACKGROUND)
        pen = ImageDraw.Draw(picture)
        points = [
            (float(x) * _SMOOTH, float(y) * _SMOOTH) for x, y in zip(self.x[frame], self.y[frame], strict=True)
        ]
        finite = [math.isfinite(x) and math.isfinite(y) for x, y in points]
        for a, b in self.layout.limbs:
            if finite[a] and finite[b]:
                pen.line([points[a], points[b]], fill=_colour(self.layout, a, b), width=self.width * _SMOOTH)
        for head in self._heads():
            if finite[head]:
                r = self.cell * 0.035 * _SMOOTH
                x, y = points[head]
                pen.ellipse([x - r, y - r, x + r, y + r], fill=COLOURS["middle"])
        picture = picture.resize((self.cell, self.cell), Image.Resampling.BOX)
        pen = ImageDraw.Draw(picture)
        pen.line([(0, self.cell - 1), (self.cell, self.cell - 1)], fill=_FLOOR)
        if self.title:
            pen.text((4, 2), self.title, fill=_TEXT, font=_font(12))
        return picture

    def _heads(self) -> list[int]:
        names = ("head", "first_head", "second_head")
        return [number for number, name in enumerate(self.layout.joints) if name in names]


def _colour(layout: SkeletonLayout, a: int, b: int) -> tuple[int, int, int]:
    names = layout.joints[a] + layout.joints[b]
    return COLOURS[next((side for side in ("left", "right") if side in names), "middle")]


def _reach(motion: np.ndarray) -> float:
    """Measure the larger of height and width that the motion takes up, in metres; outliers aside."""
    across = motion[0] - motion[0].mean(axis=1, keepdims=True)
    extents = [np.subtract(*np.nanpercentile(values, [99, 1])) for values in (across, motion[1])]
    return max(float(max(extents)), 1e-6)


def _wrapped(title: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Break a title between words into lines that are at most so many pixels wide."""
    lines = [""]
    for word in title.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
