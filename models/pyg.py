"""The few names of PyTorch Geometric that models use, imported without its start-up warnings."""

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch_geometric.data import Data
    from torch_geometric.nn import GATv2Conv, SAGEConv
    from torch_geometric.utils import trim_to_layer
else:
    with warnings.catch_warnings():
        # importing torch_geometric compiles parts of itself in a way that newer torch deprecates;
        # the user can do nothing about it
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch_geometric.data import Data
        from torch_geometric.nn import GATv2Conv, SAGEConv
        from torch_geometric.utils import trim_to_layer

__all__ = ["Data", "GATv2Conv", "SAGEConv", "trim_to_layer"]
