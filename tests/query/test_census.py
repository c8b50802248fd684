"""The calls of Census on an atlas: same keywords, the same answers as a query."""

from typing import Any

import numpy as np
import pytest

import tisseract
from tisseract.atlas.errors import ColumnNotFound, InvalidArgument, QuerySyntax
from tisseract.query import UnmeasuredWarning, select

from .conftest import Atlas

pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")


def test_one_call_equals_the_query(atlas: Atlas) -> None:
    where = "dataset_id == 'a_e9' and donor_id in ['m1'] and cell_type == 'Neuron'"
    adata: Any = tisseract.get_anndata(
        str(atlas.store.storage.local_path()),
        organism="Mus musculus",
        obs_value_filter=where,
        var_value_filter="feature_name in ['Gene3', 'Gene1'] or feature_id == 'Sox2'",
        obs_column_names=["cell_type", "donor_id"],
    )
    chosen = select(
        atlas.store, "cell_type == 'Neuron'", ["Gene1", "Gene3", "Sox2"], section="a_e9"
    )
    wanted: Any = chosen.to_anndata()
    assert list(adata.obs) == ["cell_type", "donor_id"]
    assert set(adata.obs["donor_id"]) == {"m1"}
    assert list(adata.obs_names) == list(wanted.obs_names)
    columns = wanted.var_names.get_indexer(adata.var_names)
    assert (wanted.X[:, columns] != adata.X).nnz == 0
    assert set(adata.var_names) == {"Gene1", "Gene3", "Sox2"}


def test_cells_and_genes_are_tabulated(atlas: Atlas) -> None:
    obs = tisseract.get_obs(atlas.store, value_filter="volume > 6", column_names=["volume"])
    assert list(obs.index) == list(atlas.cells.index[atlas.cells["volume"].fillna(-1) > 6])
    var = tisseract.get_var(atlas.store, "mouse", value_filter="n_sections == 4")
    assert list(var["feature_name"]) == [f"Gene{k}" for k in range(8)]
    named = tisseract.get_var(
        atlas.store, value_filter="feature_name.startswith('Only')", column_names=["feature_id"]
    )
    assert named["feature_id"].tolist() == ["OnlyD"]
    whole = tisseract.get_var(atlas.store)
    assert whole.loc[named.index, "feature_id"].tolist() == ["OnlyD"]


@pytest.mark.filterwarnings("ignore::tisseract.query.UnmeasuredWarning")
@pytest.mark.filterwarnings("ignore::tisseract.query.MixedValuesWarning")
def test_columns_come_under_the_names_asked_for(atlas: Atlas) -> None:
    names = ["cell_type", "donor_id", "dataset_id"]
    options: Any = {"obs_value_filter": "section in ['a_e9', 'd_p7']", "obs_column_names": names}
    adata: Any = tisseract.get_anndata(atlas.store, **options)
    assert list(adata.obs)[:3] == names
    assert "section" not in adata.obs
    obs = tisseract.get_obs(
        atlas.store, value_filter="section in ['a_e9', 'd_p7']", column_names=names
    )
    assert list(obs) == names
    assert obs["dataset_id"].astype(str).tolist() == [i.split(":")[0] for i in obs.index]
    var = tisseract.get_var(atlas.store).set_index("feature_id")
    assert adata.var["feature_name"].tolist() == (
        var.loc[adata.var["feature_id"], "feature_name"].tolist()
    )


def test_presence_tells_true_zeros(atlas: Atlas) -> None:
    presence = tisseract.get_presence_matrix(atlas.store).toarray()
    genes = tisseract.get_var(atlas.store)["feature_id"].tolist()
    assert presence[:, genes.index("Sox2")].tolist() == [True, True, True, False]
    assert presence[:, genes.index("OnlyD")].tolist() == [False, False, False, True]
    assert presence.sum() == 8 * 4 + 3 + 2
    with pytest.warns(UnmeasuredWarning, match="get_presence_matrix"):
        adata: Any = tisseract.get_anndata(
            atlas.store,
            obs_value_filter="section in ['a_e9', 'd_p7']",
            var_value_filter="feature_name == 'Sox2'",
        )
    measured = adata.varm["measured"]
    assert measured.loc["Sox2"].to_dict() == {"a_e9": True, "d_p7": False}
    assert adata.X[(adata.obs["section"] == "d_p7").to_numpy()].nnz == 0


def test_layers_of_values(atlas: Atlas) -> None:
    options: Any = {"obs_value_filter": "section == 'a_e9'"}
    logged: Any = tisseract.get_anndata(atlas.store, X_name="log1p", **options)
    plain: Any = tisseract.get_anndata(atlas.store, X_name="raw", **options)
    np.testing.assert_array_equal(logged.layers["counts"].data, plain.X.data)
    with pytest.raises(InvalidArgument, match=r"'raw' or 'log1p'"):
        tisseract.get_anndata(atlas.store, X_name="normalized")


def test_what_is_not_there_is_told(atlas: Atlas) -> None:
    with pytest.raises(InvalidArgument, match=r"'humen'.*mouse"):
        tisseract.get_anndata(atlas.store, "humen")
    with pytest.raises(ColumnNotFound, match=r"'featur_name'.*feature_name"):
        tisseract.get_var(atlas.store, value_filter="featur_name == 'A'")
    with pytest.raises(InvalidArgument, match="none does"):
        tisseract.get_anndata(atlas.store, var_value_filter="feature_name == 'Nope'")
    with pytest.raises(QuerySyntax):
        tisseract.get_obs(atlas.store, value_filter="__import__('os').system('x')")
    with pytest.raises(ColumnNotFound, match="cell_type"):
        tisseract.get_obs(atlas.store, value_filter="celltype == 'Neuron'")
