"""Benchmarks: Opportune and a peer side by side in one run; each writes benchmarks/results/NAME.json."""
