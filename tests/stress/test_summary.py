import json

import summary


def test_the_page_says_what_the_files_say():
    page = summary.PAGE.read_text(encoding="utf-8")
    assert summary.filled(page) == page, "run python tests/stress/summary.py"


def test_files_that_are_there_are_summarised_and_others_are_not(monkeypatch, tmp_path):
    monkeypatch.setattr(summary, "RESULTS", tmp_path)
    counts = {"inputs": 12_345, "slowest_input_seconds": 0.25}
    (tmp_path / "parser_prompts.json").write_text(json.dumps(counts), encoding="utf-8")
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in summary.table().splitlines()]
    outcome = "no exception other than a one-line error; slowest input 250 ms"
    file = "[parser_prompts.json](results/reliability/parser_prompts.json)"
    assert ["Prompts", "12,345 inputs", outcome, file] in table
    assert ["Mutants", "not measured yet", "", ""] in table
