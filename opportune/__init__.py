"""Opportune: prompt it or tune it? Measure it."""
