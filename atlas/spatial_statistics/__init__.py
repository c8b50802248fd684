"""Statistics of neighborhood graphs, block by block: neither the graph nor the matrix is held.

Every function reads a graph one block of rows at a time, in threads, and adds the results up in
the order of the blocks, so that they do not depend on the number of threads.

Examples
--------
>>> import tempfile
>>> from tisseract.atlas.graph import build_graphs, open_graph
>>> from tisseract.testing import small_atlas
>>> with tempfile.TemporaryDirectory() as folder:
...     atlas = small_atlas(folder, n_cells=800)
...     name = atlas.section_names[0]
...     entries = build_graphs(atlas, n_neighs=6, sections=[name])
...     graph, section = open_graph(atlas, "spatial", name), atlas.section(name)
...     print(degree_histogram(graph))
...     moran = spatial_autocorrelation(graph, section, normalize="log1p")
...     enriched = neighborhood_enrichment(graph, section, "true_domain", n_perms=None)
...     met = co_occurrence(section, "true_domain", [0, 50, 100])
degrees: 60 cells, 360 edges, 6 to 6 neighbors a cell, 6.00 on average, 0 cells with none
>>> moran.to_frame().columns.tolist()
['I', 'pval_norm', 'var_norm', 'pval_norm_fdr_bh']
>>> int(enriched.counts.sum()), met.occurrence.shape[2]
(360, 2)
"""

from .autocorrelation import Autocorrelation, spatial_autocorrelation
from .bivariate import Colocalization, PairStatistics, colocalization, pair_statistics
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
from .spark_x import SparkX, spark_x

__all__ = [
    "Autocorrelation",
    "CoOccurrence",
    "Colocalization",
    "ConnectedComponents",
    "DegreeHistogram",
    "EdgeLengthHistogram",
    "NeighborhoodEnrichment",
    "PairStatistics",
    "RowGraph",
    "SparkX",
    "co_occurrence",
    "colocalization",
    "connected_components",
    "degree_histogram",
    "edge_length_histogram",
    "neighborhood_enrichment",
    "pair_statistics",
    "spark_x",
    "spatial_autocorrelation",
]
