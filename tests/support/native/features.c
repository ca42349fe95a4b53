/* A CPU that has every ISA there is, for tests: their kernels are in the generic vocabulary. */
#include "cpu/features.h"

uint32_t fd_cpu_features(void) { return UINT32_MAX; }
