"""Gene identity: panels, lookups, and the union over sections."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import (
    Corrupt,
    GeneAmbiguous,
    GeneNotFound,
    InputError,
    SectionNotFound,
)
from tisseract.atlas.genes import GeneName, Panel, strip_version, union

SOX2, PAX6 = "ENSMUSG00000074637", "ENSMUSG00000027168"
TBCE = ("ENSG00000285053", "ENSG00000284770")


class TestPanel:
    def test_versions_are_stripped_from_identifiers_alone(self) -> None:
        names = [f"{SOX2}.7", "RP11-34P13.7", "Aph1b/c", "H2-K1.2"]
        panel = Panel.of(names)
        assert panel.gene_id.tolist() == [SOX2, "RP11-34P13.7", "Aph1b/c", "H2-K1.2"]
        assert panel.name.tolist() == names
        assert panel.symbol.tolist() == ["", "RP11-34P13.7", "Aph1b/c", "H2-K1.2"]
        assert [panel.find(name) for name in (SOX2, f"{SOX2}.9", "aph1B/C")] == [0, 0, 2]

    def test_copies_on_the_y_chromosome_stay_apart(self) -> None:
        both = ["ENSG00000002586.18", "ENSG00000002586.18_PAR_Y"]
        assert len(set(map(strip_version, both))) == 2
        assert len(Panel.of(both)) == 2

    def test_gene_given_twice_is_refused_with_its_names(self) -> None:
        with pytest.raises(InputError, match=rf"{SOX2}\.1 = {SOX2}\.2") as caught:
            Panel.of([f"{SOX2}.1", f"{SOX2}.2", "Pax6"], where="a.h5ad:var")
        assert caught.value.faults[0].location == "a.h5ad:var"
        with pytest.raises(InputError, match="Sox2 = Sox2"):
            Panel.of(["Sox2", "Sox2"])

    def test_symbol_of_two_identifiers_is_ambiguous_only_when_asked(self) -> None:
        panel = Panel.of(TBCE, symbols=["TBCE", "TBCE"])
        assert panel.find(TBCE[1]) == 1
        with pytest.raises(GeneAmbiguous) as caught:
            panel.find("TBCE")
        assert all(gene in str(caught.value) for gene in TBCE)

    def test_unknown_genes_come_in_one_error_with_near_ones(self) -> None:
        panel = Panel.of(["Sox2", "Pax6"])
        with pytest.raises(GeneNotFound, match=r"Did you mean 'Sox2'"):
            panel.find("Sox3")
        with pytest.raises(GeneNotFound) as caught:
            panel.find_many(["Pax6", "Sox22", "Pax66"])
        assert str(caught.value).count("expected a gene") == 2

    def test_rules_go_from_exact_to_alias(self) -> None:
        panel = Panel.of(["A", "a", "B"], aliases=[["x"], ["y"], ["A"]])
        assert [panel.find(n) for n in ("A", "a", "X", "b")] == [0, 1, 0, 2]

    def test_organism_is_told_by_identifiers_and_may_not_contradict(self) -> None:
        assert Panel.of([SOX2]).organism == "mouse"
        assert Panel.of([SOX2], organism="Mus musculus").organism == "mouse"
        with pytest.raises(InputError, match="set `organism` to 'mouse'"):
            Panel.of([SOX2], organism="human")

    def test_gene_map_wins(self) -> None:
        names = {"sox2": GeneName(SOX2, "Sox2", ("Sry-box 2",))}
        panel = Panel.of(["sox2", "other"], gene_map=names)
        assert panel.gene_id.tolist() == [SOX2, "other"]
        assert panel.find("SRY-BOX 2") == panel.find("Sox2") == 0

    def test_all_faults_at_once(self) -> None:
        with pytest.raises(InputError) as caught:
            Panel.of(["", SOX2, SOX2], organism="human")
        assert len(caught.value.faults) >= 2

    @given(
        st.lists(st.text(min_size=1).filter(str.strip), unique=True, min_size=1, max_size=20),
        st.booleans(),
    )
    @settings(max_examples=50, deadline=None)
    def test_parquet_keeps_everything(self, names: Any, padded: bool) -> None:
        symbols = [name[::-1] for name in names]
        try:
            panel = Panel.of(names, gene_ids=names, symbols=symbols, zero_padded=padded)
        except InputError:  # names that are one gene
            return
        again = Panel.from_parquet(panel.to_parquet())
        assert again == panel
        assert again.digest == panel.digest
        assert again.name.tolist() == names
        assert pickle.loads(pickle.dumps(panel)) == panel

    def test_damaged_parquet_is_corrupt(self) -> None:
        for blob in (b"", b"PAR1", Panel.of(["A"]).to_parquet()[:-9]):
            with pytest.raises(Corrupt):
                Panel.from_parquet(blob)

    def test_digest_sees_every_part(self) -> None:
        base: dict[str, Any] = {
            "organism": "mouse",
            "symbols": ["s"],
            "feature_types": ["Gene Expression"],
        }
        changes: list[dict[str, Any]] = [
            {"organism": "rat"},
            {"symbols": ["t"]},
            {"feature_types": ["Antibody"]},
            {"aliases": [["z"]]},
            {"completeness": "complete"},
            {"zero_padded": True},
        ]
        panels = [Panel.of(["g"], **(base | change)) for change in ({}, *changes)]
        assert len({panel.digest for panel in panels}) == len(panels)


class TestUnion:
    def test_symbols_take_the_identifier_another_section_knows(self) -> None:
        genes = union(
            {
                "ids": Panel.of([f"{SOX2}.7", PAX6], symbols=["Sox2", "Pax6"]),
                "symbols": Panel.of(["Pax6", "Gad1"], organism="mouse"),
                "lower": Panel.of(["sox2", "gad1"], organism="mouse"),
                "bare": Panel.of([SOX2]),
            }
        )
        assert genes.gene_id.tolist() == [SOX2, PAX6, "Gad1"]
        assert genes.columns("lower").tolist() == [0, -1, 1]
        assert genes.columns("symbols").tolist() == [-1, 0, 1]
        assert genes.columns("bare").tolist() == [0, -1, -1]
        assert genes.find("SOX2") == genes.find(SOX2) == genes.find(f"{SOX2}.3") == 0
        assert genes.table()["n_sections"].tolist() == [3, 2, 2]

    def test_order_of_sections_changes_no_identity(self) -> None:
        panels = {
            "ids": Panel.of([SOX2, PAX6], symbols=["Sox2", "Pax6"]),
            "symbols": Panel.of(["Pax6", "Gad1"], organism="mouse"),
        }
        one, two = union(panels), union(dict(reversed(panels.items())))
        assert set(one.gene_id) == set(two.gene_id)

    def test_organisms_never_unify(self) -> None:
        genes = union(
            {"m": Panel.of(["Sox2"], organism="mouse"), "h": Panel.of(["SOX2"], organism="human")}
        )
        assert len(genes) == 2
        with pytest.raises(GeneAmbiguous, match="name the organism"):
            genes.find("sox2")
        assert genes.find("sox2", organism="Homo sapiens") == 1
        assert genes.presence("m").tolist() == ["measured", "absent"]

    def test_features_of_other_types_never_unify(self) -> None:
        both = Panel.of(
            ["Cd4", "Cd4-ab"], symbols=["Cd4", "Cd4"], feature_types=["", "Antibody Capture"]
        )
        genes = union({"both": both, "genes": Panel.of(["Cd4"])})
        assert genes.columns("genes").tolist() == [0, -1]

    def test_ambiguous_symbol_stays_apart_and_unknown(self) -> None:
        genes = union(
            {
                "ids": Panel.of(TBCE, symbols=["TBCE", "TBCE"], completeness="complete"),
                "symbols": Panel.of(["TBCE"], organism="human", completeness="complete"),
            }
        )
        assert len(genes) == 3
        assert genes.presence("symbols").tolist() == ["unknown", "unknown", "measured"]
        with pytest.raises(GeneAmbiguous) as caught:
            genes.find("TBCE")
        assert all(gene in str(caught.value) for gene in TBCE)
        assert genes.find(TBCE[0]) == 0

    def test_no_kind_of_section_hides_the_other(self) -> None:
        mouse, bare = Panel.of(["Ttr"], organism="mouse"), Panel.of(["12345"], symbols=["Ttr"])
        genes = union({"a": mouse, "b": bare})
        assert genes.rows("Ttr") == genes.rows("ttr") == (0, 1)
        assert genes.rows("Ttr", "mouse") == (0,)
        assert genes.rows("12345") == (1,)
        turned = union({"a": bare, "b": mouse})
        assert turned.rows("Ttr") == turned.rows("ttr") == (1, 0)

    def test_two_names_of_one_gene_in_a_panel_do_not_collide(self) -> None:
        ids = Panel.of([SOX2], symbols=["Sox2"], aliases=[["Sry2"]])
        genes = union({"ids": ids, "old": Panel.of(["Sox2", "Sry2"], organism="mouse")})
        assert genes.columns("old").tolist() == [0, 1]

    def test_presence_says_what_is_not_known(self) -> None:
        padded = Panel.of(["A", "B"], zero_padded=True)
        genes = union({"padded": padded, "whole": Panel.of(["A", "C"], completeness="complete")})
        assert genes.presence("padded").tolist() == ["measured", "measured", "unknown"]
        seen = np.asarray([True, False], dtype=np.bool_)
        assert genes.presence("padded", seen).tolist() == ["measured", "unknown", "unknown"]
        assert genes.presence("whole").tolist() == ["measured", "absent", "measured"]
        with pytest.raises(SectionNotFound, match="Did you mean 'whole'"):
            genes.columns("wholes")

    def test_spellings_told_apart_by_a_panel_stay_apart(self) -> None:
        genes = union({"a": Panel.of(["Abc", "ABC"]), "b": Panel.of(["ABC"])})
        assert genes.columns("b").tolist() == [-1, 0]

    @given(st.lists(st.sets(st.integers(0, 30), min_size=1), min_size=1, max_size=5))
    @settings(max_examples=50, deadline=None)
    def test_union_holds_every_gene_once(self, sets: Any) -> None:
        panels = {
            str(i): Panel.of([f"g{g}" if i % 2 else f"G{g}" for g in sorted(chosen)])
            for i, chosen in enumerate(sets)
        }
        genes = union(panels)
        assert len(genes) == len(set().union(*sets))
        for section, panel in panels.items():
            columns = genes.columns(section)
            assert sorted(columns[columns >= 0].tolist()) == list(range(len(panel)))


@pytest.mark.real
def test_real_panels_unify(real_data: Path) -> None:
    def names(file: str) -> Any:
        with h5py.File(real_data / file) as h5:
            return [n.decode() for n in h5["var"][h5["var"].attrs["_index"]][:]]

    panels = {
        "mob": Panel.of(names("st_mob/MOB1.h5ad")),
        "mob2": Panel.of(names("st_mob/MOB2.h5ad")),
        "cortex": Panel.of(names("cortex_reference/seqfish_cortex.h5ad"), organism="mouse"),
        "embryo": Panel.of(names("seqfish_embryo/embryo1.h5ad"), organism="mouse"),
        "dlpfc": Panel.of(names("dlpfc/151673.h5ad")),
        "dlpfc2": Panel.of(names("dlpfc/151674.h5ad")),
        "her2st": Panel.of(names("her2st/A1.h5ad"), organism="human"),
    }
    genes = union(panels)
    both = (genes.columns("dlpfc") >= 0) & (genes.columns("dlpfc2") >= 0)
    assert both.sum() == 2340
    assert panels["dlpfc"].organism == "human"
    assert panels["mob"].organism == "mouse"
    shared = (genes.columns("cortex") >= 0) & (genes.columns("embryo") >= 0)
    lower = {n.casefold() for n in names("cortex_reference/seqfish_cortex.h5ad")}
    assert shared.sum() == len(lower & {n.casefold() for n in names("seqfish_embryo/embryo1.h5ad")})
