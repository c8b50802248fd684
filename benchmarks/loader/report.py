"""What the runs of the loaders say, line by line."""

from __future__ import annotations

from typing import Any

from .measure import LATER_EPOCHS
from .simulated import SAMPLED_GRAPH, TILE_GRAPH

MIB = 2.0**20


def raw_line(raw: dict[str, Any], sizes: dict[str, Any]) -> str:
    moved = raw["features"] + raw["edges"]
    return (
        f"  stored: matrix {sizes['matrix'] / MIB:.0f} MiB, graph {sizes[TILE_GRAPH] / MIB:.0f} "
        f"MiB, sampled graph {sizes[SAMPLED_GRAPH] / MIB:.0f} MiB\n"
        f"  raw, in order: {raw['seconds']:.2f} s (CPU {raw['cpu']:.2f} s), "
        f"{moved / raw['seconds'] / MIB:.0f} MiB/s; counts alone {raw['feature_seconds']:.2f} s"
    )


def run_line(name: str, run: dict[str, Any]) -> str:
    return (
        f"  {name:<44} {run['seconds']:6.2f} s (CPU {run['cpu']:6.2f} s) "
        f"{run['seeds'] / run['seconds'] / 1e3:7.1f} k cells/s "
        f"{run['edges'] / run['seconds'] / 1e6:6.2f} M edges/s "
        f"peak {run['peak'] / MIB:5.0f} MiB  read {run['read'] / MIB:5.0f} MiB"
    )


def tile_line(run: dict[str, Any], raw: dict[str, Any], sizes: dict[str, Any]) -> str:
    stored = sizes["matrix"] + sizes[TILE_GRAPH]
    return (
        f"    {raw['seconds'] / run['seconds']:.0%} of raw bytes/s (every cell counted once; "
        f"{run['nodes'] / run['seeds']:.2f} x the cells handed out); read "
        f"{run['read'] / stored:.2f} x what is stored; {run['requests']} requests for counts; peak "
        f"{run['peak'] / run['limit']:.0%} of the limit\n"
        f"    {run['least_blocks']} blocks in every batch or more; {run['quality']}\n"
        f"    later epochs {run['later_seconds']:.2f} s (CPU {run['later_cpu']:.2f} s)"
    )


def neighbor_line(run: dict[str, Any], sizes: dict[str, Any]) -> str:
    stored = sizes["matrix"] + sizes[SAMPLED_GRAPH]
    return f"    read {run['read'] / stored:.2f} x what is stored; {run['quality']}"


def ratio_lines(found: dict[str, dict[str, Any]]) -> list[str]:
    """Speed against the peers, within this run."""
    pairs = (
        ("tiles 256 x 64, 1 hop, reads of 256", "annbatch default pipeline, 256 x 64"),
        ("tiles 512 x 64, 1 hop, reads of 512", "annbatch zarrs, 512 x 64"),
        ("tiles 256 x 32, 1 hop", "annbatch zarrs, 512 x 64"),
        ("tiles 256 x 32, 0 hops", "annbatch zarrs, 512 x 64"),
        ("tiles 4096 x 32, 1 hop", "annbatch zarrs, 4096 x 8"),
        ("tiles 512 x 64, 1 hop", "annbatch zarrs, 512 x 64"),
        ("tiles 512 x 64, 1 hop, bytes, no lengths", "annbatch zarrs, 512 x 64"),
        ("tiles 4096 x 32, 1 hop, bytes, no lengths", "annbatch zarrs, 4096 x 8"),
        ("tiles 256 x 32, 1 hop, bytes, no lengths", "annbatch zarrs, 512 x 64"),
    )
    lines = [
        f"  {ours} / {peer}: {_rate(found[ours], 'seeds') / _rate(found[peer], 'seeds'):.2f} x "
        f"the cells/s in the first epoch, {_speed_up(found, ours, peer, 'later_seconds'):.2f} x "
        f"later, {_mean_speed_up(found[ours], found[peer]):.2f} x over {LATER_EPOCHS + 1} epochs; "
        f"by CPU {_speed_up(found, ours, peer, 'cpu'):.2f} x and "
        f"{_speed_up(found, ours, peer, 'later_cpu'):.2f} x; with edges against without"
        for ours, peer in pairs
        if ours in found and peer in found
    ]
    peer, ours = "PyG in memory", "neighbors without counts"
    if peer in found and ours in found:
        ratio = _rate(found[ours], "edges") / _rate(found[peer], "edges")
        lines.append(f"  {ours} / {peer}: {ratio:.2f} x the sampled edges/s, from disk")
    return lines


def _speed_up(found: dict[str, dict[str, Any]], ours: str, peer: str, what: str) -> float:
    return float(found[peer][what]) / float(found[ours][what])


def _mean_speed_up(ours: dict[str, Any], peer: dict[str, Any]) -> float:
    """Of a first epoch and all later ones together."""
    wanted = [run["seconds"] + LATER_EPOCHS * run["later_seconds"] for run in (peer, ours)]
    return float(wanted[0] / wanted[1])


def _rate(run: dict[str, Any], what: str) -> float:
    return float(run[what]) / float(run["seconds"])
