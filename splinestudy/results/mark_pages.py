"""Marks as HTML: at a glance, as a matrix, and each with its intervals, rule, records and command."""

import re
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby

from splinestudy.results.claim_texts import CLAIMS
from splinestudy.results.marks import Mark, Word, judging, summary, whole
from splinestudy.runs.committed import owners

SIGNS: dict[Word, str] = {"supported": "✓", "in part": "◐", "undecided": "?", "contradicted": "✗"}
"""Words are told apart without colour, too."""

_SHOWN = 8  # records that are named one by one


def by_claim(marks: Sequence[Mark]) -> dict[str, list[Mark]]:
    """The marks of each claim that has any, in the order of the claims."""
    found = {claim: [mark for mark in marks if mark.claim == claim] for claim in CLAIMS}
    return {claim: group for claim, group in found.items() if group}


def by_case(marks: Sequence[Mark]) -> Iterator[tuple[str, str, list[Mark]]]:
    """Anchor, case and marks of each case of each claim, in order. The anchor is also its figure's name."""
    for claim, group in by_claim(marks).items():
        for number, (case, members) in enumerate(groupby(group, lambda mark: mark.case), 1):
            yield f"fig-verdict-{claim.lower()}-{number}", case, list(members)


def glance_html(marks: Sequence[Mark]) -> str:
    """Every claim with one mark and one line of evidence, for a page beside the folder of chapters."""
    rows = []
    for claim, group in by_claim(marks).items():
        word = whole(group)
        deciding = [mark for mark in judging(group) if mark.decides] or judging(group)
        shown = "; ".join(f"{mark.word} on {_case(mark)}: {mark.evidence}" for mark in _examples(deciding))
        evidence = f"{summary(group)}. For example {shown}."
        rows.append(
            f'<tr><th scope="row"><a href="results/10_verdicts.html#{claim.lower()}">{claim}</a></th>'
            f'<td><a href="results/{CLAIMS[claim].chapter}.html">{escape(CLAIMS[claim].text)}</a>'
            f"<p>{escape(evidence)}</p></td><td>{_chip(word)}</td></tr>"
        )
    names = ("claim", "what it says, and evidence", "verdict")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    return f'<table class="glance"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>\n'


def matrix_html(marks: Sequence[Mark]) -> str:
    """All marks: a row for each case, a chip for each ratio that leads to what is behind it."""
    anchors = {case: anchor for anchor, case in ((a, (m[0].claim, c)) for a, c, m in by_case(marks))}
    bodies = []
    for claim, group in by_claim(marks).items():
        rows = [
            f'<tr class="claim"><th colspan="2" scope="rowgroup">{claim}: {escape(CLAIMS[claim].text)} '
            f"{_chip(whole(group))}</th></tr>"
        ]
        for case, members in groupby(group, lambda mark: mark.case):
            chips = " ".join(_chip(mark.word, mark.at, f"#{anchors[claim, case]}") for mark in members)
            rows.append(f'<tr><th scope="row">{escape(case)}</th><td>{chips}</td></tr>')
        bodies.append(f"<tbody>{''.join(rows)}</tbody>")
    return f'<table class="marks">{"".join(bodies)}</table>'


def folds_html(claim: str, marks: Sequence[Mark], formats: Sequence[str]) -> str:
    """One fold for each case of a claim: intervals, evidence, rule, records and the command that computes them.

    ``formats`` are those in which the figures of all cases were saved; the page shows the first.
    """
    owned = owners()
    folds = []
    for anchor, case, members in by_case(marks):
        if members[0].claim != claim:
            continue
        evidence = "".join(
            f"<li>{_chip(mark.word, mark.at)} {escape(mark.evidence)}</li>" for mark in members
        )
        keys = list(dict.fromkeys(key for mark in members for key in mark.records))
        commands = dict.fromkeys(owned[key][0].command() for key in keys if key in owned)
        alt = f"Intervals behind the marks of {claim} on {case}; the list below says what they show."
        files = ", ".join(
            f'<a href="../figures/{anchor}.{end}">{end.upper()}</a>' for end in (*formats, "csv")
        )
        folds.append(
            f'<details class="case"><summary>{escape(case)} {" ".join(_chip(mark.word) for mark in members)}</summary>'
            f'<div id="{anchor}"><img src="../figures/{anchor}.{formats[0]}" alt="{escape(alt)}" loading="lazy">'
            f"<ul>{evidence}</ul><p>Rule: {_plain(members[0].rule)}. Figure: {files}. {_records(keys)}</p>"
            f"<pre>{escape(chr(10).join(commands))}</pre></div></details>"
        )
    return "\n".join(folds)


def finding_html(claim: str, marks: Sequence[Mark], first: Sequence[Mark] = ()) -> str:
    """What a chapter opens with: the claim, one word on the whole, and an example of each word; empty without marks.

    Marks that the chapter is about may come ``first``.
    """
    if not marks:
        return ""
    items = "".join(
        f"<li>{_chip(mark.word)} {escape(_case(mark))}: {escape(mark.evidence)}.</li>"
        for mark in [*first, *_examples(marks)]
    )
    verdict = f'<a href="10_verdicts.html#{claim.lower()}">{summary(marks)}</a>'
    named = f"{claim}: {escape(CLAIMS[claim].text)}."
    head = f"<p>{_chip(whole(marks))} <strong>{named}</strong> {verdict}, for example:</p>"
    return f'<div class="finding">{head}<ul>{items}</ul></div>'


def _examples(marks: Sequence[Mark]) -> list[Mark]:
    """One mark for each word among them: by the protocol rather than another, and of those one that decides."""
    judged = judging(marks)
    ordered = [*(mark for mark in judged if mark.decides), *judged, *marks]
    words = dict.fromkeys(mark.word for mark in ordered)
    return [next(mark for mark in ordered if mark.word == word) for word in words]


def _case(mark: Mark) -> str:
    if not mark.at:
        return mark.case
    gone = " of the FLOPs removed" if mark.claim == "C6" else ""
    return f"{mark.case} at {mark.at}{gone}"


def _plain(rule: str) -> str:
    """A rule's date, which is written for Markdown, as HTML."""
    return re.sub(r"\*(.+?)\*", r"<em>\1</em>", re.sub(r"`(.+?)`", r"<code>\1</code>", escape(rule)))


def _records(keys: Sequence[str]) -> str:
    named = ", ".join(f"<code>{key}</code>" for key in keys[:_SHOWN])
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"Records ({len(keys)}): {named}{more}. They are computed by"


def _chip(word: Word, at: str = "", link: str = "") -> str:
    """A mark: a sign, the ratio where there are several, and the word."""
    text = f'<span aria-hidden="true">{SIGNS[word]}</span> {at + " " if at else ""}{word}'
    name = f'class="mark {word.replace(" ", "-")}"'
    return f'<a {name} href="{link}">{text}</a>' if link else f"<span {name}>{text}</span>"
