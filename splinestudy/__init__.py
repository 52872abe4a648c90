"""The study that reproduces the paper: data, networks, training, runs and their records, tables and figures."""
