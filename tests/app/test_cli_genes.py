"""`tisseract summarize`, `gene` and `svg`: the same numbers as in Python, and refusals."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tisseract as ts
from tisseract.cli import main

from ..sections import make_raw, make_store


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("genes")
    raws = {f"s{k}": make_raw(n_obs=150, seed=k, metadata={"timepoint": f"E{k}"}) for k in range(3)}
    make_store(folder, raws)
    return str(folder / "atlas")


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, list)
    return found


def test_summarize_then_gene(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = ask(capsys, "gene", place, "gene3", "--by", "layer,timepoint")
    assert main(["gene", place, "gene3", "--by", "layer"]) == 0
    told = capsys.readouterr().err
    assert "'gene3' was taken whatever the case for Gene3" in told
    assert "summarize(by=[layer]) makes" in told
    assert main(["summarize", place, "--by", "layer", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["computed"] == ["s0", "s1", "s2"]
    assert main(["summarize", place, "--by", "layer"]) == 0
    assert "0 sections computed, 3 there already" in capsys.readouterr().out
    after = ask(capsys, "gene", place, "gene3", "--by", "layer,timepoint")
    pd.testing.assert_frame_equal(pd.DataFrame(after), pd.DataFrame(before))
    table = ts.open(place).gene("Gene3").where(["layer", "timepoint"])
    np.testing.assert_allclose(
        pd.DataFrame(after)["mean_counts"].astype(float), table["mean_counts"]
    )


def test_answers_go_to_files(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gene.csv"
    assert main(["gene", place, "Gene3", "-o", str(out)]) == 0
    assert pd.read_csv(out)["section"].tolist() == ["s0", "s1", "s2"]
    picture = tmp_path / "drawn.png"
    drawn = ["gene", place, "Gene3", "--raster", "s1", "--um-per-px", "100", "--how", "sum"]
    assert main([*drawn, "-o", str(picture)]) == 0
    assert picture.stat().st_size > 0
    pixels = pd.read_csv(picture.with_suffix(".csv"))
    vector = ts.open(place).gene("Gene3").vector("s1")
    assert pixels["value"].sum() == vector.sum()
    assert pixels["n_cells"].sum() == 150
    assert main([*drawn, "-o", str(tmp_path / "drawn.zarr")]) == 0
    import xarray as xr

    image = xr.open_zarr(tmp_path / "drawn.zarr", consolidated=False)["image"]
    assert float(image.sum()) == vector.sum()
    capsys.readouterr()
    top = ask(capsys, "gene", place, "Gene3", "--colocalized", "2", "--radius", "80")
    assert len(top) == 2
    spatial = ask(capsys, "gene", place, "Gene3", "--variability", "--radius", "80")
    assert [row["section"] for row in spatial] == ["s0", "s1", "s2"]
    ranked = tmp_path / "svg.csv"
    rows = ask(capsys, "svg", place, "--section", "s1", "--top", "3", "-o", str(ranked))
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert len(pd.read_csv(ranked)) == 12


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["gene", "Gene3", "--raster", "s1"], 2),
        (["gene", "Gene3", "--raster", "s1", "--variability", "-o", "x.png"], 2),
        (["gene", "Gene3", "-o", "gene.png"], 2),
        (["gene", "Genx"], 1),
        (["gene", "Gene3", "--by", "lay"], 1),
        (["gene", "Gene3", "--colocalized", "3"], 1),
        (["svg", "--method", "moran"], 1),
        (["svg", "--section", "nowhere"], 1),
        (["summarize", "--by", "lay"], 1),
    ],
)
def test_refusals(
    place: str, arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([arguments[0], place, *arguments[1:]]) == code
    assert capsys.readouterr().err


def test_a_raster_is_a_picture_even_where_pixels_are_empty(place: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    target = tmp_path / "r.png"
    # So fine that most pixels hold no cell.
    assert main(["gene", place, "Gene3", "--raster", "s1", "--um-per-px", "20", "-q",
                 "-o", str(target)]) == 0  # fmt: skip
    pixels = imread(target)
    assert min(pixels.shape[:2]) > 200
    assert (pixels[..., 3] == 1).all()
    assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 20
    table = pd.read_csv(target.with_suffix(".csv"))
    assert {"x", "y", "n_cells", "value"} <= set(table)
    assert table["value"].notna().all()


def test_which_cells_take_part(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    n = ts.open(place).query("layer == 'L1'", section="s1").n_obs
    chosen = ["--section", "s1", "--where", "layer == 'L1'"]
    assert ask(capsys, "gene", place, "Gene3", *chosen)[0]["n"] == n
    near = ["--radius", "200"]
    assert ask(capsys, "gene", place, "Gene3", "--variability", *near, *chosen)[0]["n"] == n
    some = ask(capsys, "gene", place, "Gene3", "--colocalized", "1", *near, *chosen)
    view = ts.open(place).gene("Gene3")
    table = view.colocalized(1, "s1", radius=200.0, where="layer == 'L1'")
    assert some[0]["L"] == pytest.approx(table["L"].iloc[0])
    drawn = tmp_path / "drawn.csv"
    assert main(["gene", place, "Gene3", "--raster", "s1", *chosen[2:], "-o", str(drawn)]) == 0
    assert pd.read_csv(drawn)["n_cells"].sum() == n
    capsys.readouterr()
    first = ask(capsys, "svg", place, "--genes", "Gene3", *chosen)[0]
    wanted = ts.tl.spatially_variable(ts.open(place), "Gene3", sections="s1", where="layer == 'L1'")
    assert first["pval"] == pytest.approx(wanted["pval"].iloc[0])
    assert first["gene"] == "Gene3"
    assert main(["svg", place, *chosen, "--all-cells"]) == 1
    assert "but got both" in capsys.readouterr().err


def test_genes_that_a_section_lacks_are_refused_without_a_file_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raws = {name: make_raw(n_obs=50, n_vars=2, genes=["Sox2", name]) for name in ("a", "b")}
    make_store(tmp_path, raws)
    place = str(tmp_path / "atlas")
    asked = ["query", place, "--genes", "a"]
    for more in ([], ["-o", str(tmp_path / "out.h5ad")]):
        assert main([*asked, *more]) == 1
        assert "a is not measured in 1: b" in capsys.readouterr().err
    assert main(["region", place, "--bbox", "0,0,900,900", "--section", "b", "--genes", "a"]) == 1
    assert main([*asked, "--section", "a"]) == 0
    assert main([*asked, "--missing", "drop_sections"]) == 0
    out, err = capsys.readouterr()
    assert "50 cells x 1 genes in 1 sections" in out
    assert "left out" in err
    assert main([*asked, "--missing", "zero"]) == 0


@pytest.mark.parametrize("whose", ["atlas", "inside", "other"])
def test_a_raster_replaces_an_earlier_raster_alone(
    tmp_path: Path, whose: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_store(tmp_path, {"s1": make_raw(n_obs=40, n_vars=2)})
    brain = (tmp_path / "atlas").rename(tmp_path / "brain.zarr")
    other = tmp_path / "other.zarr"
    (other / "image").mkdir(parents=True)
    (other / "image" / "zarr.json").write_text("{}")
    target = {"atlas": brain, "inside": brain / "r.zarr", "other": other}[whose]
    before = sorted(tmp_path.rglob("*"))
    drawn = ["gene", str(brain), "Gene0", "--raster", "s1", "--overwrite", "-o", str(target)]
    assert main(drawn) == 1
    told = "another folder" if whose == "other" else "a place outside the atlas"
    assert told in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_raster_is_replaced_when_the_new_one_is_complete(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import xarray as xr

    target = tmp_path / "r.zarr"
    drawn = ["gene", place, "Gene3", "--raster", "s1", "-q", "-o", str(target)]
    assert main([*drawn, "--um-per-px", "100"]) == 0
    assert main([*drawn, "--um-per-px", "200"]) == 2
    assert main([*drawn, "--um-per-px", "200", "--overwrite"]) == 0
    image = xr.open_zarr(target, consolidated=False)["image"]
    assert image.attrs["pixel_size"] == 200
    assert list(tmp_path.iterdir()) == [target]

    def broken(_: object, path: Path, **__: object) -> None:
        path.mkdir()
        raise OSError("full")

    monkeypatch.setattr(xr.Dataset, "to_zarr", broken)
    assert main([*drawn, "--overwrite"]) != 0
    assert list(tmp_path.iterdir()) == [target]


def test_a_figure_of_a_gene_that_a_section_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    raws = {name: make_raw(n_obs=50, n_vars=2, genes=["Sox2", name]) for name in ("a", "b")}
    make_store(tmp_path, raws)
    asked = ["query", str(tmp_path / "atlas"), "--genes", "a"]
    target = tmp_path / "a.png"
    assert main([*asked, "-o", str(target)]) == 0
    # Its caption says so, and there is nothing to draw of b.
    assert pd.read_csv(target.with_suffix(".csv"))["section"].unique().tolist() == ["a"]
    for ending in ("h5ad", "zarr", "csv", "parquet"):
        assert main([*asked, "-o", str(tmp_path / f"b.{ending}")]) == 1
        assert "a is not measured in 1: b" in capsys.readouterr().err
        assert not (tmp_path / f"b.{ending}").exists()
