"""The figures of a study: what an operating point costs and wins, and what the adaptive parts do.

A module for each kind. Every function takes tables as the study's CSV files hold them, the task, the name of the
reference system, and the two files to write: a PDF, and an SVG that also holds the values under the pointer. Same
data, same bytes. Rows of several devices or thread counts are refused.
"""
