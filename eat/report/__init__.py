"""The report of a study: `results.tex` with `results_section.tex` for a paper, and `report.html` for a reader.

Everything in it comes from files that the run wrote. Numbers pass through `eat.rounding`, claims through
`eat.verdicts`; the templates only place text. Both template environments refuse an undefined value and a bare number,
and escape every string, so that a name out of a configuration is printed and never interpreted.
"""
