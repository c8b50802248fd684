"""The graph network: a few rounds of neighbor means, the last of which leaves the cell itself out.

A cell's own expression says which type of cell it is; where it lies is said by those around it.
The last layer therefore has no weight for the cell itself: its own values reach its embedding only
by way of its neighbors' neighborhoods.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..sampling.pyg import (  # pyright: ignore[reportAttributeAccessIssue]  # untyped library
    GATv2Conv,  # pyright: ignore[reportAttributeAccessIssue]
    SAGEConv,  # pyright: ignore[reportAttributeAccessIssue]
    trim_to_layer,  # pyright: ignore[reportAttributeAccessIssue]
)

__all__ = ["CONVS", "Encoder"]

CONVS = ("sage", "gat")
_PREFIX = "encoder."


class Encoder(nn.Module):
    """Embeds cells from the features of everything within `n_layers` hops.

    Parameters
    ----------
    n_features : int
        Columns of x and of the reconstruction.
    n_hidden, n_out : int
        Width of the hidden layers and of the embedding.
    n_layers : int
        Graph layers.
    conv : {"sage", "gat"}
        GraphSAGE means or GATv2 attention.
    """

    def __init__(
        self, n_features: int, n_hidden: int, n_out: int, *, n_layers: int, conv: str = "sage"
    ) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.zeros(n_features))
        widths = [n_features, *[n_hidden] * (n_layers - 1), n_out]
        self.layers = nn.ModuleList()
        for i, (a, b) in enumerate(pairwise(widths)):
            last = i == n_layers - 1
            if conv == "sage":
                self.layers.append(SAGEConv(a, b, root_weight=not last))
            else:
                self.layers.append(GATv2Conv(a, b, add_self_loops=not last))
        self.decoder = nn.Linear(n_out, n_features)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        num_sampled_nodes: list[int],
        num_sampled_edges: list[int],
    ) -> Tensor:
        """Embed the seeds of a batch.

        Parameters
        ----------
        x : Tensor (n, n_features)
            Seeds first, then hop by hop.
        edge_index : Tensor (2, e) int64
            From neighbor to cell, sorted by the hop of the cell.
        num_sampled_nodes, num_sampled_edges : list of int
            Cells and edges of each hop.

        Returns
        -------
        Tensor (seeds, n_out)
        """
        for i, layer in enumerate(self.layers):
            x, edge_index, _ = trim_to_layer(i, num_sampled_nodes, num_sampled_edges, x, edge_index)
            x = layer(x, edge_index)
            if i < len(self.layers) - 1:
                x = nn.functional.elu(x)
        return x[: num_sampled_nodes[0]]

    def to_weights(self) -> dict[str, NDArray[Any]]:
        """Return what `load_weights` wants."""
        state = self.state_dict().items()
        return {f"{_PREFIX}{name}": value.detach().cpu().numpy() for name, value in state}

    def load_weights(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Take over saved arrays; those of others are left alone.

        Raises
        ------
        RuntimeError
            They are missing, or of another encoder.
        """
        self.load_state_dict(
            {
                name.removeprefix(_PREFIX): torch.from_numpy(np.asarray(value))
                for name, value in weights.items()
                if name.startswith(_PREFIX)
            }
        )
