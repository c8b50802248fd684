"""Statistics of neighborhood graphs, block by block: neither the graph nor the matrix is held."""

from .autocorrelation import Autocorrelation, spatial_autocorrelation
from .components import ConnectedComponents, connected_components
from .histograms import (
    DegreeHistogram,
    EdgeLengthHistogram,
    degree_histogram,
    edge_length_histogram,
)
from .row_graph import RowGraph

__all__ = [
    "Autocorrelation",
    "ConnectedComponents",
    "DegreeHistogram",
    "EdgeLengthHistogram",
    "RowGraph",
    "connected_components",
    "degree_histogram",
    "edge_length_histogram",
    "spatial_autocorrelation",
]
