"""The page about quality: hostile names, its size and requests with a thousand sections."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tisseract import open as open_atlas
from tisseract.atlas.errors import AlreadyExists, InvalidArgument, SectionNotFound
from tisseract.atlas.image_sources import file_image
from tisseract.atlas.quality.section import PREVIEW
from tisseract.atlas.snapshot import Change, SectionEntry
from tisseract.atlas.store import AtlasStore
from tisseract.query.quality import collect, quality_table, write_report
from tisseract.query.quality.page import text
from tisseract.query.quality.thumbnails import density_png, pixels_within

from ..sections import make_raw, make_store
from .counting import counted

EVIL = (
    "<script>alert(1)</script>\"'><img src=http://evil.example/x onerror=alert(2)>\u202e\x00&amp;"
)
_PLACES = {"src", "href", "srcset", "action", "data", "poster", "xlink:href", "formaction"}
_VOID = {"meta", "img", "input", "link", "br"}


class Page(HTMLParser):
    """Tags, attributes, text and whether every tag is closed by its own end."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> AtlasStore:
    facts = {"technology": EVIL, "timepoint": "E12.5", "time_value": 12.5, EVIL: EVIL}
    sections = {
        "plain": make_raw(seed=1, provenance={"notes": [EVIL]}),
        "evil": make_raw(seed=2, metadata=facts, um_per_unit=None),
    }
    return make_store(tmp_path_factory.mktemp("report"), sections)


def thousand(store: AtlasStore, n: int = 1000) -> None:
    """Commit many sections that are one, as far as a report looks."""
    (entry,) = [e for e in store.snapshot.sections.values() if e.section == "plain"]
    key = f"{PREVIEW}/c/0/0/0"
    shard = store.storage.get(f"{entry.prefix}/{key}")

    def entries() -> Iterator[SectionEntry]:
        for k in range(n):
            facts = {"technology": "xenium", "timepoint": f"P{k}", "donor": f"donor {k}"}
            one = replace(entry, section=f"section_{k:04}", attempt=f"{k:032x}", metadata=facts)
            # Not by the storage, which would flush each to the disk.
            target = store.storage.local_path(f"{one.prefix}/{key}")
            assert target is not None
            target.parent.mkdir(parents=True)
            target.write_bytes(shard)
            yield one

    store.commit(Change(add_sections=entries()), "a thousand")


def test_hostile_names_stay_text(store: AtlasStore, tmp_path: Path) -> None:
    facts = write_report(store, tmp_path / "qc.html")
    page = Page(facts.path)
    assert page.open == []
    assert len(page.of("script")) == 1
    assert "src" not in page.of("script")[0]
    assert not page.of("link")
    assert all(str(image["src"]).startswith("data:image/png;base64,") for image in page.of("img"))
    assert len(page.of("img")) == 2
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert page.text.count("<script>alert(1)</script>") >= 4
    assert "\u202e" not in page.text
    assert "\x00" not in facts.path.read_text(encoding="utf-8")
    policy = str(page.of("meta")[1]["content"])
    assert "default-src 'none'" in policy
    assert "unsafe-inline'; script-src 'sha256-" in policy


def test_the_page_asks_for_nothing(store: AtlasStore, tmp_path: Path) -> None:
    page = Page(write_report(store, tmp_path / "qc.html").path)
    named = [value for _, attrs in page.tags for name, value in attrs.items() if name in _PLACES]
    assert {str(value).partition(",")[0] for value in named} == {"data:image/png;base64"}
    (style,) = re.findall("<style>(.*?)</style>", (tmp_path / "qc.html").read_text(), re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style


def test_a_row_for_each_section_with_numbers_to_sort_by(store: AtlasStore, tmp_path: Path) -> None:
    page = Page(write_report(store, tmp_path / "qc.html").path)
    assert len(page.of("tbody")) == 2
    table = quality_table(store)
    medians = [f"{value:.9g}" for value in table["median_counts"]]
    sorted_by = [attrs.get("data-v") for attrs in page.of("td")]
    assert all(median in sorted_by for median in medians)
    assert "no-unit" in page.text
    labels = [attrs["aria-label"] for attrs in page.of("svg")]
    assert len(labels) == 4
    assert all(str(label).startswith(("counts a cell", "genes a cell")) for label in labels)


@pytest.mark.slow
def test_a_thousand_sections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(tmp_path, {"plain": make_raw(n_obs=9000, provenance={"notes": [EVIL] * 9})})
    thousand(store)
    with counted(monkeypatch) as reads:
        atlas = open_atlas(store.url)
        opened = reads.requests
        facts = atlas.report(tmp_path / "qc.html")
    assert facts.n_sections == 1001
    assert facts.nbytes < 20e6
    assert opened <= 5
    # One picture each, and nothing else.
    assert reads.requests - opened == 1001
    page = Page(facts.path)
    assert len(page.of("img")) == len(page.of("tbody")) == 1001


def test_the_table_reads_nothing(store: AtlasStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with counted(monkeypatch) as reads:
        table = quality_table(store)
    assert reads.requests == 0
    assert table.index.tolist() == ["evil", "plain"]
    assert table["recorded"].all()
    assert table.loc["evil", "flags"] == "no-unit"


def test_old_sections_are_counted_for_the_page(store: AtlasStore, tmp_path: Path) -> None:
    entry = store.snapshot.sections["plain"]
    old = make_store(tmp_path, {})
    for key, _ in store.storage.list(entry.prefix):
        old.storage.put(key, store.storage.get(key))
    old.commit(Change(add_sections=[replace(entry, qc={})]), "as an older version wrote it")
    unread = quality_table(old)
    assert unread["median_counts"].isna().all()
    assert unread.loc["plain", "n_obs"] == entry.n_obs
    told: list[tuple[Any, ...]] = []
    facts = write_report(old, tmp_path / "qc.html", progress=lambda *event: told.append(event))
    assert facts.flagged == {"not-recorded": 1}
    assert [event[0] for event in told] == ["count", "draw"]
    read = quality_table(old, read=True)
    known = quality_table(store, ["plain"])
    assert read["median_counts"].tolist() == known["median_counts"].tolist()
    assert len(Page(facts.path).of("img")) == 1


def test_files_are_not_replaced_unasked(store: AtlasStore, tmp_path: Path) -> None:
    target = tmp_path / "qc.html"
    target.write_text("mine")
    with pytest.raises(AlreadyExists, match="overwrite=True"):
        write_report(store, target)
    assert target.read_text() == "mine"
    facts = write_report(store, target, ["evil"], overwrite=True, thumbnails="none")
    assert (facts.n_sections, list(tmp_path.iterdir())) == (1, [target])
    with pytest.raises(SectionNotFound, match="plain"):
        write_report(store, tmp_path / "other.html", ["plane"])
    with pytest.raises(InvalidArgument, match="density, image, none"):
        write_report(store, tmp_path / "other.html", thumbnails="big")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(InvalidArgument, match="a place outside the atlas"):
        write_report(store, Path(store.url) / "qc.html")
    with pytest.raises(AlreadyExists, match="another folder"):
        write_report(store, tmp_path, overwrite=True)


def test_an_empty_atlas_has_a_page(tmp_path: Path) -> None:
    page = Page(write_report(make_store(tmp_path, {}), tmp_path / "qc.html").path)
    assert "no sections" in page.text
    assert page.open == []


def test_pictures_fit_their_budget() -> None:
    rng = np.random.default_rng(0)
    noise = rng.random((2, 64, 64)).astype(np.float32) + 1
    for n in (1, 900, 3000, 9000):
        side = pixels_within(n, 8 * 2**20)
        assert side == 0 or n * len(density_png(noise, side)) * 4 / 3 < 9 * 2**20
    sides = [pixels_within(n) for n in (1, 10**3, 10**4, 10**5)]
    assert sides == sorted(sides, reverse=True)
    empty = np.zeros((2, 5, 9), np.float32)
    assert density_png(empty, 64).startswith(b"\x89PNG")


def test_text_cannot_break_out() -> None:
    for value in (EVIL, "a" * 10_000, "\ud800", 1.5e300, float("nan"), -3, None, True):
        shown = text(value)
        assert not set(shown) & set("<>\"'\x00\u202e")
        assert len(shown) < 1300
        shown.encode("utf-8")


def test_damage_is_told_and_the_others_are_shown(store: AtlasStore, tmp_path: Path) -> None:
    copy = make_store(tmp_path, {})
    for entry in store.snapshot.sections.values():
        for key, _ in store.storage.list(entry.prefix):
            if not (entry.section == "plain" and PREVIEW in key and "/c/" in key):
                copy.storage.put(key, store.storage.get(key))
    entries = store.snapshot.sections
    gone = replace(entries["plain"], section="gone", qc={})
    copy.commit(Change(add_sections=[*entries.values(), gone]), "one without its picture")
    facts = write_report(copy, tmp_path / "qc.html")
    # "gone" lacks its figures as well as its picture: a section still.
    assert (facts.flagged["damaged"], facts.flagged["no-unit"], facts.n_warned) == (2, 1, 3)
    page = Page(facts.path)
    assert page.open == []
    assert len(page.of("tbody")) == 3
    assert len(page.of("img")) == 1
    assert page.text.count("damaged") >= 4
    assert "tisseract verify" in page.text


def test_images_are_shown_where_there_are_any(tmp_path: Path) -> None:
    pixels = np.zeros((200, 300, 3), np.uint8)
    pixels[:, 150:, 0] = 250
    Image.fromarray(pixels).save(tmp_path / "he.png")
    raw = make_raw(images={"he": file_image(tmp_path / "he.png")})
    store = make_store(tmp_path, {"with": raw, "without": make_raw(seed=1)})
    page = Page(write_report(store, tmp_path / "qc.html", thumbnails="image").path)
    kinds = [str(image["src"]).partition(";")[0] for image in page.of("img")]
    assert kinds == ["data:image/jpeg", "data:image/png"]
    data = base64.b64decode(str(page.of("img")[0]["src"]).split(",")[1])
    with Image.open(io.BytesIO(data)) as he:
        assert he.size == (64, 43)
        colors = np.asarray(he).astype(int)
    assert colors[:, 40:, 0].min() > 200
    assert colors[:, :24, 0].max() < 50
    entry = store.snapshot.sections["with"]
    group = store.storage.local_path(f"{entry.prefix}/images/he")
    assert group is not None
    for file in [*group.rglob("c/**/*")]:
        if file.is_file():
            file.unlink()
    facts = write_report(store, tmp_path / "broken.html", thumbnails="image")
    broken = Page(facts.path)
    assert "damaged 1 section" in broken.text
    assert (facts.flagged["damaged"], facts.n_warned) == (1, 1)
    assert len(broken.of("img")) == 1


def test_cohorts_are_of_one_technology_and_kind_of_values(store: AtlasStore) -> None:
    entry = store.snapshot.sections["plain"]

    def one(name: str, technology: str, values: str, images: int) -> SectionEntry:
        quality = {**entry.qc, "images": images}
        own = {"technology": technology}
        return replace(entry, section=name, values=values, metadata=own, qc=quality)

    made = [one("a", "MERFISH", "counts", 1), one("b", "merfish", "counts", 1)]
    made += [one("c", "Merfish", "counts", 0), one("d", "merfish", "log1p", 0)]
    held = {entry.section: entry for entry in made}
    atlas: Any = SimpleNamespace(section_names=[*held], snapshot=SimpleNamespace(sections=held))
    lacking = {
        one.name for one in collect(atlas) if "no-image" in [flag.code for flag in one.flags]
    }
    assert lacking == {"c"}


def test_notes_are_shown_as_far_as_they_are_kept(tmp_path: Path) -> None:
    note = " ".join(f"word{k}" for k in range(100))
    store = make_store(tmp_path, {"s1": make_raw(n_obs=20, provenance={"notes": [note]})})
    summary = collect(store)[0].summary
    assert summary is not None
    (kept,) = summary.notes
    assert len(kept) > 390
    assert kept in Page(write_report(store, tmp_path / "qc.html").path).text
