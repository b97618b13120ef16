/* Decode files of float samples (time, channel) on a computer, each from the beginning; one line for
 * each decision: sample gesture prediction confidence nanoseconds logits... The nanoseconds are those of
 * all samples since the decision before, their reading included. After each file one line: windows
 * abstained from. */
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <time.h>

#include "md.h"

static md_decoder decoder;

static void decode(FILE *file)
{
    float sample[MD_CHANNELS];
    md_decision decision;
    struct timespec a, b;
    int g;
    md_init(&decoder);
#ifdef MD_ADAPTING
    decoder.adapting = 1;
#endif
    clock_gettime(CLOCK_MONOTONIC, &a);
    while (fread(sample, sizeof sample, 1, file) == 1) {
        if (!md_push(&decoder, sample, &decision)) {
            continue;
        }
        clock_gettime(CLOCK_MONOTONIC, &b);
        printf("%lu %ld %ld %.9g %.0f", (unsigned long)decision.sample, (long)decision.gesture,
               (long)decision.prediction, (double)decision.confidence,
               1e9 * (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec));
        for (g = 0; g < MD_CLASSES; g++) {
            printf(" %.9g", (double)decoder.logits[g]);
        }
        printf("\n");
        clock_gettime(CLOCK_MONOTONIC, &a);
    }
    printf("%lu\n", (unsigned long)decoder.abstained);
}

int main(int argc, char **argv)
{
    int i;
    for (i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (!file) {
            fprintf(stderr, "error: cannot read %s\n", argv[i]);
            return 2;
        }
        decode(file);
        fclose(file);
    }
    return 0;
}
