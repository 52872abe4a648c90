"""What stands below a figure, how pictures are made small, and what a release holds."""

import hashlib
import io
import json
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from book._tools import release
from book._tools.layout import BOOK, BuildError, Layout
from book._tools.pictures import THUMBNAIL, keep_figures, small_png, small_svg
from book._tools.render import lighten
from splinestudy.runs import committed
from splinestudy.runs.committed import STUDIES, committed_store, read_so_far

sys.path.append(str(BOOK.source / "_ext"))
from figure_links import Figure, fold


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def figure(folder, page="results/03_early_bird", caption="Distances: all pairs. More."):
    return Figure(page, "fig-x", "3.2", caption, "Early birds", (folder / "fig-x.svg", folder / "fig-x.csv"))


def test_fold_names_files_command_records_and_entry(tmp_path):
    read = {
        "records": 3,
        "first": ["2026-11-23T10:00"],
        "last": ["2026-11-28T10:00"],
        "commits": ["a" * 40] * 2,
    }
    (tmp_path / "fig-x.json").write_text(json.dumps(read))
    html = fold(figure(tmp_path), "../", "The Book")
    assert 'href="../figures/fig-x.svg"' in html
    assert 'aria-label="fig-x as CSV"' in html
    assert "make book NOTEBOOK=03" in html
    assert "3 committed records, finished between 2026-11-23 and 2026-11-28, made at 2 commits" in html
    assert "@misc{splinelib-fig-x," in html
    assert "title = {Distances (figure 3.2)}" in html


def test_figure_without_records_says_so(tmp_path):
    html = fold(figure(tmp_path, page="index"), "", "The Book")
    assert "no committed records" in html
    assert "<code>make book</code>" in html


def test_what_was_read_is_counted_once():
    before = read_so_far()["records"]
    study = next(study for study in STUDIES if study.sweep == "pilot")
    committed._READ.clear()
    found = committed.committed(study, committed_store())
    committed.committed(study, committed_store(), "dense")
    told = read_so_far()
    assert told["records"] == len(found) >= 20
    assert told["first"] < told["last"]
    assert {record.provenance["commit"] for record in found} == set(told["commits"])
    assert before >= 0


def test_small_pictures_show_the_same():
    colours = np.array([[[255, 255, 255], [200, 30, 10], [0, 90, 180]]], np.uint8)
    array = colours[0][np.random.default_rng(0).integers(0, 3, (40, 60))]
    small = small_png(png(array))
    with Image.open(io.BytesIO(small)) as image:
        np.testing.assert_array_equal(np.array(image.convert("RGB")), array)
    assert len(small) <= len(png(array))


def test_figures_are_moved_with_thumbnails(tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    (made / "fig-x.svg").write_text("<svg/>")
    (made / "fig-x.png").write_bytes(png(np.zeros((100, 2 * THUMBNAIL, 3), np.uint8)))
    assert keep_figures(made, tmp_path / "kept") == ["fig-x.png", "fig-x.svg"]
    assert (tmp_path / "kept" / "fig-x.svg").read_text() == "<svg/>"
    with Image.open(tmp_path / "kept" / "thumbnails" / "fig-x.png") as image:
        assert image.size == (THUMBNAIL, 50)


def test_small_drawings_keep_all_but_comments_and_indentation():
    drawing = b"<svg>\n  <!-- a\n comment -->\n  <text>a  b</text>\n</svg>\n"
    assert small_svg(drawing) == b"<svg>\n<text>a  b</text>\n</svg>\n"
    glyph = b'<use transform="scale(0.015625)"/><path id="a.1234" d="M 1.23456 -7 \nL 0.5 8.999"/>'
    assert small_svg(glyph) == glyph.replace(b"1.23456", b"1.23").replace(b"8.999", b"8.99")


def test_sources_of_chapters_are_the_committed_notebooks(tmp_path):
    chapter, scripts = tmp_path / "_sources" / "results" / "10_verdicts.ipynb", tmp_path / "_static"
    for path in (chapter, scripts / "a.js", scripts / "a.js.map"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("as it was")
    lighten(tmp_path)
    assert [path.name for path in scripts.iterdir()] == ["a.js"]
    assert json.loads(chapter.read_text())["cells"][1]["outputs"] == []


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    root = tmp_path / "checkout"
    files = {"CITATION.cff": "version: 1.2.3", "records/a.json": "{}", ".gitignore": "build/"}
    for name, text in (files | {"build/site/index.html": "<p>"}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "First"]):
        subprocess.run(["git", *arguments], cwd=root, check=True)
    monkeypatch.setattr(release, "ROOT", root)
    monkeypatch.setattr(release, "BUILD", root / "build")
    return Layout(source=root / "book", site=root / "build" / "site", store=root / "runs")


def test_release_holds_source_records_and_book_with_their_sums(checkout):
    archive = release.make_release(checkout)
    assert archive.name == "splinelib-1.2.3.tar.gz"
    with tarfile.open(archive) as tar:
        found = {name.partition("/")[2]: tar.extractfile(name).read() for name in tar.getnames()}
    assert {
        "source/records/a.json",
        "source/CITATION.cff",
        "book/index.html",
        "SHA256SUMS",
        "COMMIT",
    } <= found.keys()
    sums = dict(line.split("  ")[::-1] for line in found["SHA256SUMS"].decode().splitlines())
    assert sums.keys() == found.keys() - {"SHA256SUMS", "COMMIT"}
    assert all(hashlib.sha256(found[name]).hexdigest() == value for name, value in sums.items())
    again = archive.read_bytes()
    release.make_release(checkout)
    assert archive.read_bytes() == again


def test_release_is_made_from_a_commit_and_a_rendered_book(checkout):
    (release.ROOT / "new.txt").write_text("not committed")
    with pytest.raises(BuildError, match="new.txt"):
        release.make_release(checkout)
    (release.ROOT / "new.txt").unlink()
    (checkout.site / "index.html").unlink()
    with pytest.raises(BuildError, match="make book"):
        release.make_release(checkout)
