"""Runs: settings that can compute themselves, the records they leave, and the sweeps that they make up."""
