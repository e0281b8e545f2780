"""The machine underneath: device, BLAS, memory, random numbers, and mathematics that MLX does slowly on a CPU."""
