#include "cpu/features.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <stddef.h>

/* A CPU may have registers that the operating system does not save: XCR0 tells (Intel SDM vol. 1, 13.3). */
enum { XCR0_AVX = 0x06, XCR0_AVX512 = 0xE6 };

static uint32_t xcr0(void) {
    uint32_t eax, edx;
    __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    return eax;
}

enum { EAX, EBX, ECX, EDX };

/* Where CPUID tells a feature (Intel SDM vol. 2A), and what the system must save for it. */
static const struct {
    uint32_t feature, leaf, subleaf, bit;
    int reg;
    uint32_t saved;
} table[] = {
    {FD_CPU_FMA, 1, 0, 12, ECX, XCR0_AVX},         {FD_CPU_F16C, 1, 0, 29, ECX, XCR0_AVX},
    {FD_CPU_AVX2, 7, 0, 5, EBX, XCR0_AVX},         {FD_CPU_AVXVNNI, 7, 1, 4, EAX, XCR0_AVX},
    {FD_CPU_AVX512F, 7, 0, 16, EBX, XCR0_AVX512},  {FD_CPU_AVX512DQ, 7, 0, 17, EBX, XCR0_AVX512},
    {FD_CPU_AVX512CD, 7, 0, 28, EBX, XCR0_AVX512}, {FD_CPU_AVX512BW, 7, 0, 30, EBX, XCR0_AVX512},
    {FD_CPU_AVX512VL, 7, 0, 31, EBX, XCR0_AVX512}, {FD_CPU_AVX512VNNI, 7, 0, 11, ECX, XCR0_AVX512},
};

uint32_t fd_cpu_features(void) {
    uint32_t regs[4], features = 0;
    if (!__get_cpuid(1, &regs[EAX], &regs[EBX], &regs[ECX], &regs[EDX])) return 0;
    const uint32_t needed = 1u << 27 /* OSXSAVE */ | 1u << 28 /* AVX */;
    if ((regs[ECX] & needed) != needed) return 0;
    const uint32_t saved = xcr0();
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if ((saved & table[i].saved) != table[i].saved) continue;
        /* A CPU without the subleaf says 0 everywhere. */
        if (!__get_cpuid_count(table[i].leaf, table[i].subleaf, &regs[EAX], &regs[EBX], &regs[ECX], &regs[EDX]))
            continue;
        if (regs[table[i].reg] >> table[i].bit & 1) features |= table[i].feature;
    }
    return features;
}

#elif defined(__aarch64__)

/* Part of the baseline. */
uint32_t fd_cpu_features(void) { return FD_CPU_NEON; }

#else

uint32_t fd_cpu_features(void) { return 0; }

#endif
