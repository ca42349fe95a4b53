#include "cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "fastdigit supports little-endian CPUs only: model files are used where they lie"
#endif

_Static_assert(sizeof(size_t) == 8, "load.c multiplies 32-bit dimensions in size_t");

#if defined(__x86_64__)

#include <cpuid.h>

/* A CPU may have registers that the operating system does not save: XCR0 tells (Intel SDM vol. 1, 13.3). */
enum { XCR0_AVX = 0x06, XCR0_AVX512 = 0xE6 };

static uint32_t xcr0(void) {
    uint32_t eax, edx;
    __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    return eax;
}

enum level { AVX2, AVX512, AVX512VNNI };

/* Intel SDM vol. 2A, CPUID. */
static int x86_has(enum level level) {
    uint32_t eax, ebx, ecx, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return 0;
    const uint32_t needed = 1u << 12 /* FMA */ | 1u << 27 /* OSXSAVE */ | 1u << 28 /* AVX */ | 1u << 29 /* F16C */;
    if ((ecx & needed) != needed) return 0;
    if ((xcr0() & XCR0_AVX) != XCR0_AVX) return 0;

    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return 0;
    const uint32_t avx2 = 1u << 5;
    if (!(ebx & avx2)) return 0;
    if (level == AVX2) return 1;

    const uint32_t f = 1u << 16, dq = 1u << 17, cd = 1u << 28, bw = 1u << 30, vl = 1u << 31;
    const uint32_t all = f | dq | cd | bw | vl;
    if ((ebx & all) != all || (xcr0() & XCR0_AVX512) != XCR0_AVX512) return 0;
    const uint32_t vnni = 1u << 11;
    return level == AVX512 || (ecx & vnni);
}

/* Unused where the compiler could not build that ISA. */
__attribute__((unused)) static int has_avx512vnni(void) { return x86_has(AVX512VNNI); }
__attribute__((unused)) static int has_avx512(void) { return x86_has(AVX512); }
__attribute__((unused)) static int has_avx2(void) { return x86_has(AVX2); }

#endif

static int always(void) { return 1; }

extern const fd_kernels fd_kernels_generic, fd_kernels_avx2, fd_kernels_avx512, fd_kernels_avx512vnni, fd_kernels_neon;

/* The build defines FD_HAVE_<isa> for those its compiler could build; best first. */
static const struct {
    const fd_kernels *kernels;
    int (*usable)(void);
} isas[] = {
#if defined(FD_HAVE_AVX512VNNI)
    {&fd_kernels_avx512vnni, has_avx512vnni},
#endif
#if defined(FD_HAVE_AVX512)
    {&fd_kernels_avx512, has_avx512},
#endif
#if defined(FD_HAVE_AVX2)
    {&fd_kernels_avx2, has_avx2},
#endif
#if defined(FD_HAVE_NEON)
    {&fd_kernels_neon, always}, /* part of the AArch64 baseline */
#endif
    {&fd_kernels_generic, always},
};

enum { ISAS = sizeof isas / sizeof isas[0] };

const fd_kernels *fd_cpu_kernels(size_t i) { return i < ISAS ? isas[i].kernels : NULL; }

int fd_cpu_usable(size_t i) { return i < ISAS && isas[i].usable(); }

fd_status fd_cpu_select(const fd_kernels **kernels, fd_error *error) {
    const char *const wanted = getenv("FASTDIGIT_ISA");
    char names[64] = "";
    for (size_t i = 0; i < ISAS; i++) {
        const int usable = isas[i].usable();
        const char *const name = isas[i].kernels->isa;
        if (!wanted && usable) {
            *kernels = isas[i].kernels;
            return FD_OK;
        }
        if (wanted && strcmp(wanted, name) == 0) {
            if (!usable) return fd_fail(error, FD_ERR_ISA, "FASTDIGIT_ISA is '%s', which this CPU does not have", name);
            *kernels = isas[i].kernels;
            return FD_OK;
        }
        const size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", name);
    }
    return fd_fail(error, FD_ERR_ISA, "FASTDIGIT_ISA is '%.40s', which is unknown; this build has: %s", wanted, names);
}

const char *fd_isa_name(size_t i, int *usable) {
    const fd_kernels *const kernels = fd_cpu_kernels(i);
    if (usable) *usable = fd_cpu_usable(i);
    return kernels ? kernels->isa : NULL;
}

fd_status fd_isa_selected(const char **name, fd_error *error) {
    const fd_kernels *kernels;
    if (!name) return fd_fail(error, FD_ERR_ARGUMENT, "fd_isa_selected: name is NULL");
    const fd_status status = fd_cpu_select(&kernels, error);
    *name = status == FD_OK ? kernels->isa : NULL;
    return status;
}
