"""The compiled engine of the exact partition: a network read into a program, and the kernels that run it."""
