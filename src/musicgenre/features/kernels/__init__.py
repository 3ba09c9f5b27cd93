"""Fast loops for the CPU, compiled by numba: Fourier transforms, running medians, vectors side by side."""
