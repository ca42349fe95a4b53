"""The C core: kernels, loader, other CPUs and compilers, sanitizers, the C library."""
