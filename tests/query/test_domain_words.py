"""A view of domains says how large it is."""

from typing import Any

from tisseract.query import domains


def test_a_view_of_domains_tells_its_size(atlas: Any) -> None:
    view = domains(atlas.store, "dom")
    n_cells = sum(atlas.store.section(name).n_obs for name in ("a_e9", "d_p7"))
    assert repr(view) == f"DomainView(key='dom': 3 domains of {n_cells:,} cells in 2 sections)"
    assert repr(view.within(["a_e9"])).endswith("cells in 1 section)")
