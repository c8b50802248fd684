"""What tests of Visium and Visium HD ask of their readers: options, tissue under the spots."""

from __future__ import annotations

from typing import Any

import numpy as np

from tisseract.ingest.reader import ReadOptions
from tisseract.ingest.source import RawSection

GLASS = 200  # gray above which simulated images show no tissue


def with_kwargs(**kwargs: object) -> ReadOptions:
    return ReadOptions(reader_kwargs=kwargs)


class UnderSpots:
    """Share of the spots that lie on tissue in an image of the section."""

    def __init__(self, raw: RawSection, name: str) -> None:
        image: Any = raw.images[name]
        with image.open() as pixels:
            self.gray = pixels.rows(0, pixels.shape[1]).mean(axis=0)
        assert raw.um_per_unit is not None
        self.at = raw.positions * raw.um_per_unit / image.affine[0][0]

    def share(self, scale: float = 1.0, order: tuple[int, int] = (0, 1)) -> float:
        x, y = (self.at[:, order] * scale).T.astype(int)
        inside = (x < self.gray.shape[1]) & (y < self.gray.shape[0])
        dark = np.zeros(len(self.at), bool)
        dark[inside] = self.gray[y[inside], x[inside]] < GLASS
        return float(dark.mean())
