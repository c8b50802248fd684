"""The sample sheet over real tissue: every set with its own unit, values, split and assay.

python tests/real_sheet.py DATA_FOLDER samples.csv
"""

import csv
import sys
from pathlib import Path

HUMAN, MOUSE, CHICKEN = "human", "mouse", "chicken"
# Donors of Maynard et al. (2021): 151510 is of the first, 151673 and 151674 of the third.
_DLPFC = {"151510": "Br5292", "151673": "Br8100", "151674": "Br8100"}
_WITH_IMAGE = {"B4", "C2", "C3", "C4"}


def real_rows(*, images: bool = True) -> list[dict[str, str]]:
    """Rows of the sheet; paths are relative to the data folder."""
    rows = [
        {
            "sample": f"dlpfc_{name}",
            "data_path": f"dlpfc/{name}.h5ad",
            "technology": "visium",
            "um_per_unit": "lattice:100",
            "organism": HUMAN,
            "donor": donor,
            "tissue": "dorsolateral prefrontal cortex",
        }
        for name, donor in _DLPFC.items()
    ]
    for patient in "ABCD":
        for i in range(1, 7):
            name = f"{patient}{i}"
            rows.append(
                {
                    "sample": f"her2st_{name}",
                    "data_path": f"her2st/{name}.h5ad",
                    "technology": "spatial transcriptomics",
                    "um_per_unit": "lattice:200",
                    "organism": HUMAN,
                    "donor": patient,
                    "tissue": "breast",
                    "condition": "HER2+ carcinoma",
                    "section_index": str(i),
                    # All sections list the union of genes; those never seen were not measured.
                    "reader_kwargs": '{"zero_padded": true}',
                    "image": (
                        f"her2st/images/{name}.jpg" if images and name in _WITH_IMAGE else ""
                    ),
                }
            )
    rows += [
        {
            "sample": "osmfish",
            "data_path": "osmfish/osmfish.h5ad",
            "technology": "osmfish",
            "um_per_unit": "unknown",
            "values": "normalized",
            "organism": MOUSE,
            "tissue": "somatosensory cortex",
        },
        *(
            {
                "sample": f"starmap_{name}",
                "data_path": f"starmap_mpfc/{file}.h5ad",
                "technology": "starmap",
                "um_per_unit": "unknown",
                "organism": MOUSE,
                "tissue": "medial prefrontal cortex",
            }
            for name, file in (("BZ5", "20180417_BZ5"), ("BZ9", "20180419_BZ9"))
        ),
        {
            "sample": "merfish",
            "data_path": "merfish_hypothalamus/3samples.h5ad",
            "technology": "merfish",
            "um_per_unit": "1",
            "values": "log1p",
            "split_by": "samples",
            "organism": MOUSE,
            "tissue": "hypothalamus",
        },
        *(
            {
                "sample": f"seqfish_embryo{i}",
                "data_path": f"seqfish_embryo/embryo{i}.h5ad",
                "technology": "seqfish",
                "um_per_unit": "unknown",
                "split_by": "section",
                "organism": MOUSE,
                "donor": f"embryo{i}",
                "tissue": "embryo",
                "timepoint": "E8.5",
            }
            for i in (1, 2)
        ),
        {
            "sample": "iss",
            "data_path": "iss_mouse_coronal/coronal.h5ad",
            "technology": "in-situ sequencing",
            "um_per_unit": "unknown",
            "values": "expected",
            "organism": MOUSE,
            "tissue": "brain, coronal",
        },
        {
            "sample": "heart",
            "data_path": "chicken_heart/composition.h5ad",
            "technology": "visium",
            "um_per_unit": "lattice:100",
            "values": "composition",
            "split_by": "day",
            "organism": CHICKEN,
            "tissue": "heart",
            "timepoint": "E{split}",
        },
        {
            "sample": "visium_mouse",
            "data_path": "vendor/visium_mouse",
            "format": "visium",
            "organism": MOUSE,
        },
        # Its sister visium_mini/2.1.0 has no positions, so it is no section: a test of bad input.
        {
            "sample": "visium_mini",
            "data_path": "vendor/visium_mini/1.0.0",
            "format": "visium",
            "organism": HUMAN,
        },
    ]
    return rows


def write_real_sheet(root: Path, path: Path, *, images: bool = True) -> Path:
    """Write the sheet as CSV, with paths that work from where it lies."""
    rows = real_rows(images=images)
    header = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header, restval="")
        writer.writeheader()
        for row in rows:
            places = {
                name: str(root / row[name]) for name in ("data_path", "image") if row.get(name)
            }
            writer.writerow({**row, **places})
    return path


if __name__ == "__main__":
    write_real_sheet(Path(sys.argv[1]).absolute(), Path(sys.argv[2]))
