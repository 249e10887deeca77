"""Plots and HTML pages for results: a library that imports no other package of this project."""
