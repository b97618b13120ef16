/* Decode a file of float samples (time, channel) on a computer; one line for each decision:
 * sample gesture answer confidence nanoseconds logits... Then one line: abstained. */
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <time.h>

#include "md.h"

static md_decoder decoder;

int main(int argc, char **argv)
{
    float sample[MD_CHANNELS];
    md_decision decision;
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    int g;
    if (!file) {
        fprintf(stderr, "usage: %s SAMPLES\n", argv[0]);
        return 2;
    }
    md_init(&decoder);
    while (fread(sample, sizeof sample, 1, file) == 1) {
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        if (md_push(&decoder, sample, &decision)) {
            clock_gettime(CLOCK_MONOTONIC, &b);
            printf("%lu %ld %ld %.9g %.0f", (unsigned long)decision.sample, (long)decision.gesture,
                   (long)decision.answer, (double)decision.confidence,
                   1e9 * (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec));
            for (g = 0; g < MD_CLASSES; g++) {
                printf(" %.9g", (double)decoder.logits[g]);
            }
            printf("\n");
        }
    }
    fclose(file);
    printf("%lu\n", (unsigned long)decoder.abstained);
    return 0;
}
