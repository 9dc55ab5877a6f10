"""Readers: tables, plots, the HTML page."""
