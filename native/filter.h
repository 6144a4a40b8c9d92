/* System-call filters, written as a list of what is allowed. */
#ifndef KLUIS_FILTER_H
#define KLUIS_FILTER_H
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FILTER_MOST 1024

struct filter {
    struct sock_filter code[FILTER_MOST];
    unsigned n;
};

#define ARG_LOW(i) ((uint32_t)(offsetof(struct seccomp_data, args) + 8 * (i)))

static inline void emit(struct filter *f, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf) {
    if (f->n < FILTER_MOST) f->code[f->n] = (struct sock_filter){code, jt, jf, k};
    f->n++;
}

static inline void load(struct filter *f, uint32_t offset) { emit(f, BPF_LD | BPF_W | BPF_ABS, offset, 0, 0); }
static inline void verdict(struct filter *f, uint32_t what) { emit(f, BPF_RET | BPF_K, what, 0, 0); }

/* x86-64 only; the x32 numbers (bit 30) and any other architecture end the process. */
static inline void filter_begin(struct filter *f) {
    f->n = 0;
    load(f, offsetof(struct seccomp_data, arch));
    emit(f, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    verdict(f, SECCOMP_RET_KILL_PROCESS);
    load(f, offsetof(struct seccomp_data, nr));
    emit(f, BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1);
    verdict(f, SECCOMP_RET_KILL_PROCESS);
}

static inline void answer(struct filter *f, uint32_t nr, uint32_t what) {
    emit(f, BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1);
    verdict(f, what);
}

static inline void allow(struct filter *f, uint32_t nr) { answer(f, nr, SECCOMP_RET_ALLOW); }

static inline void allow_all(struct filter *f, const uint32_t *numbers, unsigned count) {
    for (unsigned i = 0; i < count; i++) allow(f, numbers[i]);
}

/* Return what for nr if the low half of argument i is value; else continue. */
static inline void refuse_value(struct filter *f, uint32_t nr, unsigned i, uint32_t value, uint32_t what) {
    emit(f, BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 4);
    load(f, ARG_LOW(i));
    emit(f, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    verdict(f, what);
    load(f, offsetof(struct seccomp_data, nr));
}

/* Allow nr if the low half of argument i is one of the values; else return otherwise. */
static inline void allow_values(struct filter *f, uint32_t nr, unsigned i, const uint32_t *values, unsigned count,
                                uint32_t otherwise) {
    emit(f, BPF_JMP | BPF_JEQ | BPF_K, nr, 0, (uint8_t)(2 * count + 2));
    load(f, ARG_LOW(i));
    for (unsigned v = 0; v < count; v++) {
        emit(f, BPF_JMP | BPF_JEQ | BPF_K, values[v], 0, 1);
        verdict(f, SECCOMP_RET_ALLOW);
    }
    verdict(f, otherwise);
}

/* Allow nr if all bits of mask are set in the low half of argument i; else return otherwise. */
static inline void allow_bits(struct filter *f, uint32_t nr, unsigned i, uint32_t mask, uint32_t otherwise) {
    emit(f, BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 5);
    load(f, ARG_LOW(i));
    emit(f, BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
    emit(f, BPF_JMP | BPF_JEQ | BPF_K, mask, 0, 1);
    verdict(f, SECCOMP_RET_ALLOW);
    verdict(f, otherwise);
}

static inline int filter_install(struct filter *f, uint32_t otherwise) {
    verdict(f, otherwise);
    if (f->n > FILTER_MOST) { errno = E2BIG; return -1; }
    struct sock_fprog program = {(unsigned short)f->n, f->code};
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}
#endif
