"""The image of a section behind its cells, from the level of its pyramid that a panel can show."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import InvalidArgument, near

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...atlas.section import Section
    from ...atlas.store import AtlasStore

__all__ = ["draw_image"]

# Pixels along a panel's longer side: 2.4 inches at 300 dots an inch.
_PIXELS = 720


def draw_image(
    axes: "Axes",
    store: "AtlasStore",
    section: "Section",
    view: tuple[float, float, float, float],
    wanted: bool | str,
) -> bool:
    """Draw what lies in a view, and tell whether there was an image.

    Sections without an image, and atlases in a bucket (spatialdata 0.8 opens local stores only),
    show their cells alone. Memory: the pixels of the view at the level that is drawn, twice.

    Raises
    ------
    InvalidArgument
        The section has images, but none of this name.
    """
    from matplotlib.transforms import Affine2D

    found = _image(store, section, wanted)
    if found is None:
        return False
    levels, matrix = found
    corners = _corners(view)
    pixels = (np.linalg.inv(matrix) @ corners)[:2]
    whole = levels[0]
    wide = int(whole.sizes["x"])
    chosen = whole
    for level in levels:
        if (np.ptp(pixels, axis=1).max() * level.sizes["x"] / wide) < _PIXELS:
            break
        chosen = level
    shrunk = wide / chosen.sizes["x"], whole.sizes["y"] / chosen.sizes["y"]
    x, y = pixels[0] / shrunk[0], pixels[1] / shrunk[1]
    left, right = np.clip([np.floor(x.min()), np.ceil(x.max())], 0, chosen.sizes["x"]).astype(int)
    top, low = np.clip([np.floor(y.min()), np.ceil(y.max())], 0, chosen.sizes["y"]).astype(int)
    if right <= left or low <= top:
        return False
    part = chosen.isel(x=slice(left, right), y=slice(top, low)).transpose("y", "x", "c")
    limits = axes.get_xlim(), axes.get_ylim()
    scale = np.diag([shrunk[0], shrunk[1], 1.0])
    axes.imshow(
        _colors(np.asarray(part.data.compute() if hasattr(part.data, "compute") else part.data)),
        extent=(left, right, low, top),
        origin="upper",
        transform=Affine2D(matrix @ scale) + axes.transData,
        interpolation="antialiased",
    )
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])
    return True


def _corners(view: tuple[float, float, float, float]) -> Any:
    xmin, ymin, xmax, ymax = view
    return np.array([[xmin, xmax, xmin, xmax], [ymin, ymin, ymax, ymax], [1.0, 1.0, 1.0, 1.0]])


def _image(
    store: "AtlasStore", section: "Section", wanted: bool | str
) -> tuple[list[Any], Any] | None:
    """Levels of an image, finest first, and its affine from pixels to the section."""
    path = store.storage.local_path(section.entry.prefix)
    if path is None or not (path / "images").is_dir():
        return None
    names = sorted(entry.name for entry in (path / "images").iterdir() if entry.is_dir())
    if not names:
        return None
    name = names[0] if wanted is True else str(wanted)
    if name not in names:
        raise InvalidArgument(
            f"an image of section {section.name!r} is wanted, but got {name!r}.{near(name, names)}"
        )
    import spatialdata as sd
    from spatialdata.transformations import get_transformation

    image = sd.read_zarr(path, selection=("images",)).images[name]
    system = "microns" if section.um_per_unit is not None else "source_units"
    affine: Any = get_transformation(image, system)
    matrix = np.asarray(affine.to_affine_matrix(("x", "y"), ("x", "y")), np.float64)
    if not hasattr(image, "children"):
        return [image], matrix
    return [level["image"] for level in image.children.values()], matrix


def _colors(pixels: Any) -> Any:
    """Channels as colors: three or four as they are, else the first ones in gray."""
    if pixels.dtype == np.uint8 and pixels.shape[2] in (3, 4):
        return pixels
    light = pixels[..., :3] if pixels.shape[2] == 3 else pixels[..., :1]
    light = light.astype(np.float64)
    high = np.percentile(light, 99.5) or 1.0
    scaled = np.clip(light / high, 0, 1)
    return scaled if scaled.shape[2] == 3 else np.repeat(scaled, 3, axis=2)
