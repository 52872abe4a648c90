"""How confident intervals are, everywhere."""

CONFIDENCE = 0.95
"""Share of repetitions in which an interval holds the truth."""
