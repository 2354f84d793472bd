"""Tables in Markdown."""

from __future__ import annotations

from llmrl.report.markdown import table


def test_a_table_has_a_line_a_row_and_its_cells_keep_their_bars() -> None:
    rows = iter([["dqn", "1"], ["a|b", ""]])
    assert list(table(["arm", "seeds"], rows)) == [
        "| arm | seeds |",
        "| --- | ---: |",
        "| dqn | 1 |",
        r"| a\|b |  |",
    ]
