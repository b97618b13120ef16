/* A decoder up to its logits as a shared library, for a reader that adapts and decides itself. */
#include <string.h>

#include "md.h"

#define MD_WIDE (!MD_NETWORK && MD_BANDS <= 8 && MD_SAMPLES >= 8)
#if MD_WIDE && defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__) && __GNUC__ >= 12
#define MD_CLONES __attribute__((flatten, target_clones("arch=x86-64-v3", "default")))
#endif
#include "md.c"

#if !MD_WIDE
typedef struct {
    md_decoder decoder;
} md_wide;

static void widen(md_wide *w)
{
    (void)w;
}
#endif

/* One stream. Its filter is that of Python, in the same order of arithmetic. */
typedef struct {
    md_wide network;
    int32_t step;
    double sections[MD_SECTIONS][6];
    double steady[MD_SECTIONS][2]; /* state after a constant 1 */
    double state[MD_SECTIONS][2][MD_CHANNELS];
} md_stream;

static void append_exactly(md_stream *s)
{
    md_decoder *d = &s->network.decoder;
    double x[MD_CHANNELS];
    float values[MD_CHANNELS];
    int i, k, c;
    if (!d->started && all_known(d)) {
        d->started = 1;
        for (i = 0; i < MD_SECTIONS; i++) {
            for (k = 0; k < 2; k++) {
                for (c = 0; c < MD_CHANNELS; c++) {
                    s->state[i][k][c] = s->steady[i][k] * (double)d->newest[c];
                }
            }
        }
    }
    for (c = 0; c < MD_CHANNELS; c++) {
        x[c] = d->started ? (double)d->newest[c] : 0.0;
    }
    for (i = 0; i < MD_SECTIONS; i++) {
        const double *f = s->sections[i];
        double *first = s->state[i][0], *second = s->state[i][1];
        for (c = 0; c < MD_CHANNELS; c++) {
            const double y = f[0] * x[c] + first[c];
            first[c] = f[1] * x[c] - f[4] * y + second[c];
            second[c] = f[2] * x[c] - f[5] * y;
            x[c] = y;
        }
    }
    for (c = 0; c < MD_CHANNELS; c++) {
        values[c] = (float)x[c];
    }
    store(d, values);
}

/* Bytes of a stream, which lies where a double may. */
int32_t md_bytes(void)
{
    return (int32_t)sizeof(md_stream);
}

/* What a reader must agree with: channels, samples of a window, gestures, sections of the filter. */
void md_sizes(int32_t sizes[4])
{
    sizes[0] = MD_CHANNELS;
    sizes[1] = MD_SAMPLES;
    sizes[2] = MD_CLASSES;
    sizes[3] = MD_SECTIONS;
}

/* Begin a stream that is decided every `step` samples; the filter's sections, (section, 6), and
 * their steady states, (section, 2). */
void md_start(md_stream *s, const double *sections, const double *steady, int32_t step)
{
    memset(s, 0, sizeof *s);
    md_init(&s->network.decoder);
    widen(&s->network);
    memcpy(s->sections, sections, sizeof s->sections);
    memcpy(s->steady, steady, sizeof s->steady);
    s->step = step;
}

/* Take samples, (sample, channel). Of each window that they complete write the logits, and whether
 * it is sound, else its logits are of no meaning. Returns the number of windows. */
int32_t md_take(md_stream *s, const float *samples, int32_t count, float *logits, uint8_t *sound)
{
    md_decoder *d = &s->network.decoder;
    int32_t windows = 0;
    for (; count > 0; count--, samples += MD_CHANNELS) {
        count_clean(d, repair(d, samples));
        append_exactly(s);
        d->fill++;
        if (d->fill < MD_SAMPLES) {
            continue;
        }
        if (d->clean == MD_SAMPLES) {
            network(d);
            memcpy(logits, d->logits, sizeof d->logits);
        }
        *sound++ = (uint8_t)(d->clean == MD_SAMPLES && finite_logits(d));
        logits += MD_CLASSES;
        slide(d, s->step);
        windows++;
    }
    return windows;
}

/* One filtered window, MD_CHANNELS rows of MD_SAMPLES, to MD_CLASSES logits, in a stream that is
 * used for nothing else. */
void md_logits(md_stream *s, const float *window, float *logits)
{
    md_decoder *d = &s->network.decoder;
    float values[MD_CHANNELS];
    int c;
    for (d->fill = 0; d->fill < MD_SAMPLES; d->fill++) {
        for (c = 0; c < MD_CHANNELS; c++) {
            values[c] = window[c * MD_SAMPLES + d->fill];
        }
        store(d, values);
    }
    network(d);
    memcpy(logits, d->logits, sizeof d->logits);
}
