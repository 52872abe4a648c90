"""Training: one short loop, its optimiser, and clever first weights."""
