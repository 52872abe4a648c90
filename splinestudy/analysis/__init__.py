"""What single chapters measure, apart from training and pruning."""
