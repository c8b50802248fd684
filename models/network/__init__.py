"""The graph network: layers, loss, training, exact inference."""
