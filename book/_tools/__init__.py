"""From notebooks to the rendered site. Run as ``python -m book._tools`` from the repository's root."""
