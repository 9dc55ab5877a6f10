"""Examples: your files, the hub, the bundled task."""
