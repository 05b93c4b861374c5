"""Many models over many tasks and data sets: what is missing is measured, and one page shows all of it.

lines.py (models down) and columns.py (data sets x tasks across) say what there is to measure, cells.py measures it,
stamps.py says what is done, table.py holds what was found, page.py and rows.py write it.
"""
