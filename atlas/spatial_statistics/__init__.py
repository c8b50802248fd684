"""Statistics of neighborhood graphs, block by block: neither the graph nor the matrix is held."""

from .autocorrelation import Autocorrelation, spatial_autocorrelation
from .co_occurrence import CoOccurrence, co_occurrence
from .components import ConnectedComponents, connected_components
from .enrichment import NeighborhoodEnrichment, neighborhood_enrichment
from .histograms import (
    DegreeHistogram,
    EdgeLengthHistogram,
    degree_histogram,
    edge_length_histogram,
)
from .row_graph import RowGraph

__all__ = [
    "Autocorrelation",
    "CoOccurrence",
    "ConnectedComponents",
    "DegreeHistogram",
    "EdgeLengthHistogram",
    "NeighborhoodEnrichment",
    "RowGraph",
    "co_occurrence",
    "connected_components",
    "degree_histogram",
    "edge_length_histogram",
    "neighborhood_enrichment",
    "spatial_autocorrelation",
]
