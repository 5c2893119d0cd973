"""docs/breaks.md is written in sections, each by what measures it."""

from __future__ import annotations

from pathlib import Path

from bench.breaks_page import PAGE, measured_on, missed, write_section


def test_a_section_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    """What was measured anew replaces its own section, and no other."""
    page = tmp_path / "page.md"
    write_section(page, "One", "first \\1 text")
    write_section(page, "Two", "second")
    write_section(page, "One", "new\n\nlines\n")
    assert page.read_text().endswith("\n## One\n\nnew\n\nlines\n\n## Two\n\nsecond\n")
    assert page.read_text().startswith("# How authorization breaks")


def test_a_page_that_is_written_twice_is_the_same(tmp_path: Path) -> None:
    """Measuring again adds no lines."""
    page = tmp_path / "page.md"
    for _ in range(2):
        write_section(page, "One", "text")
        write_section(page, "Two", "text")
    before = page.read_text()
    write_section(page, "Two", "text")
    assert page.read_text() == before
    assert before.count("## ") == 2


def test_what_a_person_remarked_stays(tmp_path: Path) -> None:
    """A section that is written anew keeps its remarks, and the other section keeps its own."""
    page = tmp_path / "page.md"
    write_section(page, "One", "first")
    page.write_text(page.read_text() + "\n### Remarks\n\nOf the first.\n")
    write_section(page, "Two", "second")
    page.write_text(page.read_text() + "\n### Remarks\n\nOf the second.\n")
    write_section(page, "One", "new")
    assert page.read_text().endswith(
        "\n## One\n\nnew\n\n### Remarks\n\nOf the first.\n"
        "\n## Two\n\nsecond\n\n### Remarks\n\nOf the second.\n"
    )


def test_the_page_has_its_sections() -> None:
    """What is measured is in the documentation, with the day."""
    text = PAGE.read_text()
    for title in ("At verifier and relying party", "On the node", "Under load"):
        section = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        assert "Measured on 20" in section, title


def test_what_was_measured_says_when() -> None:
    """A figure has a date, a machine, and how to get another."""
    assert measured_on("3 runs", "`make breaks`").startswith("Measured on 20")
    assert "3 runs" in measured_on("3 runs", "`make breaks`")


def test_misses_are_said_by_the_figures() -> None:
    """Which rows did not hold is written by what measured them."""
    assert missed({}, 20) == missed({"one": 0}, 20) == "Every row held in every run."
    said = missed({"one": 2, "two": 0, "three": 1}, 20)
    assert said == "Rows that did not hold, and in how many of 20 runs: one (2), three (1)."
