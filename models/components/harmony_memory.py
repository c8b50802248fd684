"""How much memory Harmony takes."""

from .harmony_sweeps import N_PILES

__all__ = ["correction_bytes", "harmony_bytes"]

SAMPLE_ROWS = 20_000
BLOCK_ROWS = 4096


def correction_bytes(n_rows: int, width: int, n_clusters: int) -> int:
    """Return what a block takes while it is shared among clusters and corrected.

    Examples
    --------
    >>> correction_bytes(10**6, 120, 100) // 2**20
    47
    """
    return 8 * min(n_rows, BLOCK_ROWS) * (6 * width + 8 * n_clusters)


def harmony_bytes(
    n_rows: int, width: int, *, n_clusters: int, n_batches: int, max_iter: int
) -> int:
    """Return about what `fit_harmony` takes: the sample of its first centers, or its rounds.

    Parameters
    ----------
    n_rows : int
        Rows of all sections together.
    width : int
        Columns.
    n_clusters, n_batches, max_iter : int

    Examples
    --------
    >>> harmony_bytes(10**6, 120, n_clusters=100, n_batches=4, max_iter=10) // 2**20
    155
    """
    sample = 8 * min(n_rows, SAMPLE_ROWS) * (4 * width + 5 * n_clusters)
    # rounds that are done, and what the ridge regression of one makes on its way
    effects = 8 * n_clusters * n_batches * width * (max_iter + 5)
    counts = 8 * 3 * N_PILES * n_clusters * n_batches
    return max(sample, correction_bytes(n_rows, width, n_clusters)) + effects + counts
