"""Reader of Curio Seeker output: molecules by bead, positions, clusters and metrics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, override

import numpy as np

from ...atlas.errors import InputError
from ..h5ad import H5adReader
from ..reader import FaultList
from ..source import StringValues
from .bead_match import fill_mtx, fill_radius
from .beads import Beads, bead_unit, read_beads
from .folder import Folder
from .h5ad_obs import h5ad_obs
from .joined import join_columns
from .mtx_beads import MtxParts
from .table import open_table
from .vendor import Survey, VendorReader

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..reader import ReadOptions
    from ..source import ObsColumn, RawSection

__all__ = ["CurioReader"]

_MATRIX = ("*moleculespermatchedbead.mtx", "*moleculespermatchedbead.mtx.gz")
_POSITIONS = ("*matchedbeadlocation.csv", "*matchedbeadlocation.csv.gz")
_H5AD = ("*_anndata.h5ad", "anndata.h5ad")
_CLUSTERS = ("*cluster_assignment.txt",)
_METRICS = ("*metrics.csv",)
_FEATURES = ("*variable_features_clusters.txt", "*variable_features_spatial_moransi.txt")
_MOST_METRICS = 500


class CurioReader(VendorReader):
    """A Curio Seeker output folder: the mtx with its lists and positions, or the h5ad file alone.

    The files do not say the unit. Without `um_per_unit`, 1 um is assumed where it puts beads of
    10 um side by side.

    reader_kwargs: `panel` (`complete` when genes that are not listed were not measured).
    """

    format: str = "curio"
    technology: str = "Curio Seeker"
    known_options: ClassVar[frozenset[str]] = frozenset({"panel"})

    @override
    def recognizes(self, path: Path) -> bool:
        """Whether a folder has the vendor's files; never raises."""
        try:
            folder = Folder.of(path, 1)
        except InputError:
            return False
        own = folder.all(*_POSITIONS) or folder.all(*_MATRIX)
        return bool(own or (folder.all(*_H5AD) and folder.all(*_CLUSTERS, *_METRICS)))

    @override
    def files(self, path: Path, options: ReadOptions) -> tuple[Path, ...]:
        """Return every file that is read."""
        folder = Folder.of(path, 1)
        matrix = folder.find(*_MATRIX)
        parts = MtxParts.beside(folder, matrix).files if matrix else ()
        rest = [folder.find(*one) for one in (_POSITIONS, _H5AD, _CLUSTERS, _METRICS)]
        return tuple(one for one in (*parts, *rest, options.gene_map) if one is not None)

    @override
    def survey(self, path: Path, options: ReadOptions) -> Survey:
        """Fill ids, positions and counts from the mtx or the h5ad file, then the rest."""
        survey = Survey(path)
        folder = Folder.of(path, 1)
        survey.faults.faults.extend(folder.faults)
        if folder.faults:
            return survey  # nothing outside the folder is opened
        matrix, everywhere = None, np.empty((0, 2))
        with survey.faults.part():
            matrix = folder.find(*_MATRIX)
            if matrix is not None:
                everywhere = _from_mtx(survey, folder, matrix, options)
            else:
                everywhere = _from_h5ad(survey, folder, options)
        if survey.ids is None:
            return survey
        with survey.faults.part():
            survey.unit = bead_unit(
                everywhere, options, 1.0, "Curio Seeker positions taken as micrometers", str(path)
            )
            fill_radius(survey)
        with survey.faults.part():
            _fill_obs(survey, folder, with_h5ad=matrix is not None)
        with survey.faults.part():
            _fill_metrics(survey, folder)
        for one in folder.all(*_FEATURES):
            survey.notes.append(f"{one.name} is not read: statistics of genes can be found again")
        return survey


def _from_mtx(
    survey: Survey, folder: Folder, matrix: Path, options: ReadOptions
) -> NDArray[np.float64]:
    """Fill everything from the mtx and the positions; returns positions of all beads."""
    positions = folder.find(*_POSITIONS)
    h5ad = folder.find(*_H5AD)
    parts = MtxParts.beside(folder, matrix)
    if positions is not None or h5ad is None:
        beads = read_beads(positions or folder.need("positions of the beads", *_POSITIONS))
    else:
        survey.missing.append(
            f"no MatchedBeadLocation.csv in the folder: positions are those of {h5ad.name}"
        )
        _, beads = _opened(h5ad, options)
    fill_mtx(survey, parts, beads, options)
    return beads.positions


def _opened(path: Path, options: ReadOptions) -> tuple[RawSection, Beads]:
    kwargs = {name: value for name, value in options.reader_kwargs.items() if name == "panel"}
    plain = replace(
        options,
        um_per_unit="unknown",
        technology=None,
        reader_kwargs=kwargs,
        image=None,
        y_axis=None,
    )
    raw = H5adReader().open(path, plain)
    ids = raw.instance_ids.read()
    assert isinstance(ids, StringValues)
    return raw, Beads(ids, raw.positions)


def _from_h5ad(survey: Survey, folder: Folder, options: ReadOptions) -> NDArray[np.float64]:
    """Fill everything from the h5ad file; returns positions of all beads."""
    path = folder.need("counts", *_MATRIX, *_H5AD)
    survey.missing.append(f"no MoleculesPerMatchedBead.mtx in the folder: counts of {path.name}")
    raw, beads = _opened(path, options)
    survey.ids, survey.positions, survey.obs = beads.barcodes, beads.positions, dict(raw.obs)
    survey.counts, survey.panel = raw.counts, raw.panel
    return beads.positions


def _fill_obs(survey: Survey, folder: Folder, *, with_h5ad: bool) -> None:
    """Join the columns of the h5ad file and the clusters by barcode."""
    assert survey.ids is not None
    h5ad, clusters = folder.find(*_H5AD), folder.find(*_CLUSTERS)
    if with_h5ad and h5ad is not None:
        names, columns = h5ad_obs(h5ad)
        _join(survey, names, columns, h5ad)
    elif h5ad is None:
        survey.missing.append("no anndata.h5ad in the folder: measures of the beads are not there")
    if clusters is None:
        survey.missing.append("no cluster_assignment.txt in the folder: no clusters")
        return
    table = open_table(clusters, delimiter="\t", names=("barcode", "cluster"))
    names = table.strings("barcode")
    if twice := names.repeated():
        survey.faults.add(
            str(clusters), f"expected every bead once, but got {twice[0]!r} again; correct the file"
        )
        return
    _join(survey, names, table.columns(["cluster"]), clusters)


def _join(survey: Survey, names: StringValues, columns: dict[str, ObsColumn], path: Path) -> None:
    assert survey.ids is not None
    rows = survey.ids.find_in(names)
    joined = join_columns(columns, rows, path.name, survey.notes, what="beads")
    survey.obs |= {name: one for name, one in joined.items() if name not in survey.obs}


def _fill_metrics(survey: Survey, folder: Folder) -> None:
    """Keep the metrics of the run by category."""
    path = folder.find(*_METRICS)
    if path is None:
        survey.missing.append("no Metrics.csv in the folder: no metrics of the run")
        return
    faults = FaultList()
    with faults.part():
        table = open_table(path, delimiter=",")
        columns = [table.strings(name).to_list()[:_MOST_METRICS] for name in table.names[:3]]
        metrics: dict[str, dict[str, str]] = {}
        for row in zip(*columns, strict=True):
            name, value, category, *_ = (*(str(word or "").strip() for word in row), "", "")
            metrics.setdefault(category, {})[name] = value
        survey.versions["metrics"] = metrics
    # A number more or less on the run is no reason to lose the run.
    survey.notes.extend(f"metrics are left out: {fault.message}" for fault in faults.faults)
