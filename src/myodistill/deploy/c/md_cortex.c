/* The decoder on a bare Cortex-M4F. As it is, it decodes what an ADC would leave in `md_input`: a
 * program to measure flash and RAM with. With MD_GOLDEN it reads samples.f32 and writes
 * decisions.bin through semihosting (QEMU): for each decision sample, gesture, prediction, timer ticks
 * and logits, then the number of windows abstained from and the bytes of stack used. */
#include <stddef.h>

#include "md.h"

extern uint32_t data_begin[], data_end[], data_load[], bss_begin[], bss_end[], stack_top[];

static md_decoder decoder;

void reset(void);

static const struct {
    uint32_t *stack;
    void (*reset)(void);
} vectors __attribute__((section(".vectors"), used)) = {stack_top, reset};

#ifdef MD_GOLDEN
extern uint32_t stack_painted[], stack_begun[];
#define PAINT 0xA5A5A5A5u
#define TIMER ((volatile uint32_t *)0xE000E010u) /* SysTick: control, reload, value */

static uint32_t semihosting(uint32_t operation, const void *arguments)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = arguments;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static uint32_t open_file(const char *name, uint32_t length, uint32_t mode)
{
    const uint32_t arguments[3] = {(uint32_t)name, mode, length};
    return semihosting(0x01, arguments);
}

/* Returns the bytes that were not read or written. */
static uint32_t transfer(uint32_t operation, uint32_t file, const void *bytes, uint32_t count)
{
    const uint32_t arguments[3] = {file, (uint32_t)bytes, count};
    return semihosting(operation, arguments);
}

static void run(void)
{
    const uint32_t in = open_file("samples.f32", 11, 1), out = open_file("decisions.bin", 13, 5);
    float sample[MD_CHANNELS];
    md_decision decision;
    uint32_t last[2], *word = stack_painted;
    TIMER[1] = 0xFFFFFF;
    TIMER[0] = 5;
    md_init(&decoder);
#ifdef MD_ADAPTING
    decoder.adapting = 1;
#endif
    while (transfer(0x06, in, sample, sizeof sample) == 0) {
        const uint32_t before = TIMER[2];
        if (md_push(&decoder, sample, &decision)) {
            const uint32_t ticks = (before - TIMER[2]) & 0xFFFFFF;
            const int32_t row[4] = {(int32_t)decision.sample, decision.gesture, decision.prediction,
                                    (int32_t)ticks};
            transfer(0x05, out, row, sizeof row);
            transfer(0x05, out, decoder.logits, sizeof decoder.logits);
        }
    }
    while (word < stack_begun && *word == PAINT) {
        word++;
    }
    last[0] = decoder.abstained;
    last[1] = (uint32_t)stack_top - (uint32_t)word;
    transfer(0x05, out, last, sizeof last);
    semihosting(0x18, (const void *)0x20026);
}
#else
volatile float md_input[MD_CHANNELS];
volatile int32_t md_output;

static void run(void)
{
    float sample[MD_CHANNELS];
    md_decision decision;
    int c;
    md_init(&decoder);
    for (;;) {
        for (c = 0; c < MD_CHANNELS; c++) {
            sample[c] = md_input[c];
        }
        if (md_push(&decoder, sample, &decision)) {
            md_output = decision.gesture;
        }
    }
}
#endif

void reset(void)
{
    uint32_t *to = data_begin;
    const uint32_t *from = data_load;
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* the FPU is off after reset */
    __asm__ volatile("dsb\n\tisb");
    while (to < data_end) {
        *to++ = *from++;
    }
    for (to = bss_begin; to < bss_end; to++) {
        *to = 0;
    }
#ifdef MD_GOLDEN
    for (to = stack_painted; to < stack_begun; to++) {
        *(volatile uint32_t *)to = PAINT;
    }
#endif
    run();
    for (;;) {
    }
}
