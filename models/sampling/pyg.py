"""The few names of PyTorch Geometric that models use, imported without its start-up warnings."""

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch_geometric.data import Data, EdgeAttr, FeatureStore, GraphStore, TensorAttr
    from torch_geometric.data.graph_store import EdgeLayout
    from torch_geometric.loader import NodeLoader
    from torch_geometric.nn import GATv2Conv, SAGEConv
    from torch_geometric.sampler import BaseSampler, NodeSamplerInput, SamplerOutput
    from torch_geometric.utils import trim_to_layer
else:
    with warnings.catch_warnings():
        # importing torch_geometric compiles parts of itself in a way that newer torch deprecates;
        # the user can do nothing about it
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch_geometric.data import Data, EdgeAttr, FeatureStore, GraphStore, TensorAttr
        from torch_geometric.data.graph_store import EdgeLayout
        from torch_geometric.loader import NodeLoader
        from torch_geometric.nn import GATv2Conv, SAGEConv
        from torch_geometric.sampler import BaseSampler, NodeSamplerInput, SamplerOutput
        from torch_geometric.utils import trim_to_layer

__all__ = [
    "BaseSampler",
    "Data",
    "EdgeAttr",
    "EdgeLayout",
    "FeatureStore",
    "GATv2Conv",
    "GraphStore",
    "NodeLoader",
    "NodeSamplerInput",
    "SAGEConv",
    "SamplerOutput",
    "TensorAttr",
    "trim_to_layer",
]
