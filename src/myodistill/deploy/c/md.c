/* The decoder of md.h: causal filter, window, log powers of bands, network, decision rule. */
#include "md.h"

#include <math.h>
#include <string.h>

#include "md_model.h"

/* Does not compile where md.h would state another size. */
typedef char md_ram_is_as_stated[sizeof(md_decoder) == MD_RAM_BYTES ? 1 : -1];

void md_init(md_decoder *d)
{
    int c;
    memset(d, 0, sizeof *d);
    d->current = MD_REJECTED;
    for (c = 0; c < MD_CHANNELS; c++) {
        d->newest[c] = NAN;
    }
}

/* Keep the sound values; returns whether all were. What is not a number compares false. */
static int repair(md_decoder *d, const float *sample)
{
    int c, sound = 1;
    for (c = 0; c < MD_CHANNELS; c++) {
        if (fabsf(sample[c]) <= MD_LIMIT) {
            d->newest[c] = sample[c];
        } else {
            sound = 0;
        }
    }
    return sound;
}

static int all_known(const md_decoder *d)
{
    int c;
    for (c = 0; c < MD_CHANNELS; c++) {
        if (!isfinite(d->newest[c])) {
            return 0;
        }
    }
    return 1;
}

/* Second-order sections, transposed direct form II. They pass no constant, so that beginning in
 * the steady state of the first sample is the same as beginning at zero with it taken away; that
 * also keeps an offset out of the arithmetic. */
static float filtered(md_decoder *d, int c)
{
    float x = d->newest[c] - d->first[c];
    int s;
    for (s = 0; s < MD_SECTIONS; s++) {
        const float *k = md_sections[s];
        float *state = d->filter[c][s];
        const float y = k[0] * x + state[0];
        state[0] = k[1] * x - k[3] * y + state[1];
        state[1] = k[2] * x - k[4] * y;
        x = y;
    }
    return x;
}

static void append(md_decoder *d)
{
    float values[MD_CHANNELS];
    int c;
    if (!d->started && all_known(d)) {
        d->started = 1;
        memcpy(d->first, d->newest, sizeof d->first);
    }
    for (c = 0; c < MD_CHANNELS; c++) {
        values[c] = d->started ? filtered(d, c) : 0.0f;
    }
    if (d->fill < 0) {
        return;
    }
    for (c = 0; c < MD_INPUTS; c++) {
#if MD_MAPPED
        float sum = 0.0f;
        int i;
        for (i = 0; i < MD_CHANNELS; i++) {
            sum += md_map[c][i] * values[i];
        }
        d->signal[c][MD_PAD + d->fill] = sum;
#else
        d->signal[c][MD_PAD + d->fill] = values[c];
#endif
    }
}

/* One band of MD_BLOCK samples, a multiple of four: y[t] = sum of h[k] x[t + k]; the filter is
 * symmetric. Unrolled, four at a time load each x once; it is most of the decoder's work. */
static void band_block(float *restrict y, const float *restrict x, const float *restrict h)
{
    int t;
    for (t = 0; t < MD_BLOCK; t += 4, x += 4, y += 4) {
        float y0 = h[MD_PAD] * x[MD_PAD], y1 = h[MD_PAD] * x[MD_PAD + 1];
        float y2 = h[MD_PAD] * x[MD_PAD + 2], y3 = h[MD_PAD] * x[MD_PAD + 3];
        int k;
#if defined(__GNUC__) && !defined(__clang__) && MD_PAD <= 32
#pragma GCC unroll 32
#endif
        for (k = 0; k < MD_PAD; k++) {
            const float *left = x + k, *right = x + MD_TAPS - 1 - k;
            y0 += h[k] * (left[0] + right[0]);
            y1 += h[k] * (left[1] + right[1]);
            y2 += h[k] * (left[2] + right[2]);
            y3 += h[k] * (left[3] + right[3]);
        }
        y[0] = y0;
        y[1] = y1;
        y[2] = y2;
        y[3] = y3;
    }
}

/* Four sums side by side: faster, and rounded less, than one. */
static float dot(const float *a, const float *b, int n)
{
    float s0 = 0.0f, s1 = 0.0f, s2 = 0.0f, s3 = 0.0f;
    int t;
    for (t = 0; t + 4 <= n; t += 4) {
        s0 += a[t] * b[t];
        s1 += a[t + 1] * b[t + 1];
        s2 += a[t + 2] * b[t + 2];
        s3 += a[t + 3] * b[t + 3];
    }
    for (; t < n; t++) {
        s0 += a[t] * b[t];
    }
    return (s0 + s1) + (s2 + s3);
}

/* Covariances of one band, upper triangle, those off the diagonal doubled. */
static void covariances(md_decoder *d, const float *h)
{
    int begin, i, j;
    memset(d->covariance, 0, sizeof d->covariance);
    /* The last block ends with the window: it is laid over the one before, and takes only its
     * new samples. */
    for (begin = 0; begin < MD_SAMPLES; begin += MD_BLOCK) {
        const int left = MD_SAMPLES - begin;
        const int start = left < MD_BLOCK ? MD_SAMPLES - MD_BLOCK : begin;
        const int skip = begin - start;
        for (i = 0; i < MD_INPUTS; i++) {
            band_block(d->block[i], d->signal[i] + start, h);
        }
        for (i = 0; i < MD_INPUTS; i++) {
            for (j = i; j < MD_INPUTS; j++) {
                d->covariance[i][j] += dot(d->block[i] + skip, d->block[j] + skip, MD_BLOCK - skip);
            }
        }
    }
    for (i = 0; i < MD_INPUTS; i++) {
        for (j = i; j < MD_INPUTS; j++) {
            d->covariance[i][j] *= (i == j ? 1.0f : 2.0f) / (float)MD_SAMPLES;
        }
    }
}

/* Log power of each projection w in each band: log(w' C w + floor). The covariance first and then
 * a quadratic form is cheaper than to filter each projection, for there are more projections than
 * channels. */
static void log_powers(md_decoder *d)
{
    int b, p, i, j;
    for (b = 0; b < MD_BANDS; b++) {
        covariances(d, md_taps[b]);
        for (p = 0; p < MD_PROJECTIONS; p++) {
            const float *w = md_projections[b][p];
            float power = 0.0f;
            for (i = 0; i < MD_INPUTS; i++) {
                float sum = 0.0f;
                for (j = i; j < MD_INPUTS; j++) {
                    sum += d->covariance[i][j] * w[j];
                }
                power += w[i] * sum;
            }
            d->features[b * MD_PROJECTIONS + p] = logf((power > 0.0f ? power : 0.0f) + MD_FLOOR);
        }
    }
}

#if MD_INT8
/* Activations in 8 bits, as ONNX's QuantizeLinear rounds them. */
static void quantise(const float *values, int n, float scale, int32_t zero, uint8_t *out)
{
    int i;
    for (i = 0; i < n; i++) {
        const float q = rintf(values[i] / scale) + (float)zero;
        out[i] = (uint8_t)(q < 0.0f ? 0.0f : q > 255.0f ? 255.0f : q);
    }
}

/* 8-bit weights and inputs, 32-bit sums; `offsets` takes the inputs' zero away. */
static void dense(const uint8_t *in, int n, const int8_t *weights, const int32_t *offsets,
                  const float *scales, const float *biases, int outputs, int relu, float *out)
{
    int o, i;
    for (o = 0; o < outputs; o++) {
        const int8_t *row = weights + o * n;
        int32_t sum = 0;
        float value;
        for (i = 0; i < n; i++) {
            sum += (int32_t)row[i] * (int32_t)in[i];
        }
        value = (float)(sum - offsets[o]) * scales[o] + biases[o];
        out[o] = relu && value < 0.0f ? 0.0f : value;
    }
}

static void network(md_decoder *d)
{
    quantise(d->features, MD_FEATURES, MD_SCALE_0, MD_ZERO_0, d->quantised);
    dense(d->quantised, MD_FEATURES, md_weights_0[0], md_offsets_0, md_scales_0, md_biases_0,
          MD_HIDDEN, 1, d->hidden);
    quantise(d->hidden, MD_HIDDEN, MD_SCALE_1, MD_ZERO_1, d->quantised);
    dense(d->quantised, MD_HIDDEN, md_weights_1[0], md_offsets_1, md_scales_1, md_biases_1,
          MD_CLASSES, 0, d->logits);
}
#else
static void dense(const float *in, int n, const float *weights, const float *biases, int outputs,
                  int relu, float *out)
{
    int o;
    for (o = 0; o < outputs; o++) {
        const float value = dot(weights + o * n, in, n) + biases[o];
        out[o] = relu && value < 0.0f ? 0.0f : value;
    }
}

static void network(md_decoder *d)
{
    dense(d->features, MD_FEATURES, md_weights_0[0], md_biases_0, MD_HIDDEN, 1, d->hidden);
    dense(d->hidden, MD_HIDDEN, md_weights_1[0], md_biases_1, MD_CLASSES, 0, d->logits);
}
#endif

static void abstain(md_decoder *d, md_decision *out)
{
    d->abstained++;
    d->answers = d->smoothed = 0;
    d->current = MD_REJECTED;
    d->held = 0;
    out->gesture = out->answer = MD_REJECTED;
    out->confidence = 0.0f;
}

/* Most frequent of the newest answers, of equally frequent ones the newest. */
static int32_t majority(const md_decoder *d)
{
    int i, j, most = 0;
    int32_t winner = MD_REJECTED;
    for (i = 0; i < d->answers; i++) {
        const int32_t answer = d->votes[(d->newest_answer + MD_VOTES - i) % MD_VOTES];
        int count = 0;
        for (j = 0; j < d->answers; j++) {
            count += d->votes[(d->newest_answer + MD_VOTES - j) % MD_VOTES] == answer;
        }
        if (count > most) {
            most = count;
            winner = answer;
        }
    }
    return winner;
}

static void decide(md_decoder *d, md_decision *out)
{
    float total = 0.0f, best = -1.0f;
    float *p;
    int32_t gesture = 0, winner;
    int g, i;

    d->newest_probability = (d->newest_probability + 1) % MD_SMOOTHING;
    d->smoothed += d->smoothed < MD_SMOOTHING;
    p = d->probabilities[d->newest_probability];
    for (g = 1; g < MD_CLASSES; g++) {
        gesture = d->logits[g] > d->logits[gesture] ? g : gesture;
    }
    out->answer = gesture;
    for (g = 0; g < MD_CLASSES; g++) {
        p[g] = expf(d->logits[g] - d->logits[gesture]);
        total += p[g];
    }
    for (g = 0; g < MD_CLASSES; g++) {
        p[g] /= total;
    }
    for (g = 0; g < MD_CLASSES; g++) {
        float sum = 0.0f;
        for (i = 0; i < d->smoothed; i++) {
            sum += d->probabilities[(d->newest_probability + MD_SMOOTHING - i) % MD_SMOOTHING][g];
        }
        if (sum > best) {
            best = sum;
            gesture = g;
        }
    }
    out->confidence = best / (float)d->smoothed;

    d->newest_answer = (d->newest_answer + 1) % MD_VOTES;
    d->answers += d->answers < MD_VOTES;
    d->votes[d->newest_answer] = out->confidence >= MD_THRESHOLD ? gesture : MD_REJECTED;
    winner = majority(d);
    if (winner != d->current && (d->current == MD_REJECTED || d->held >= MD_HOLD)) {
        d->current = winner;
        d->held = 0;
    }
    d->held++;
    out->gesture = d->current;
}

static int finite_logits(const md_decoder *d)
{
    int g;
    for (g = 0; g < MD_CLASSES; g++) {
        if (!isfinite(d->logits[g])) {
            return 0;
        }
    }
    return 1;
}

int md_push(md_decoder *d, const float sample[MD_CHANNELS], md_decision *decision)
{
    int c, kept;
    d->clean = !repair(d, sample) ? 0 : d->clean < MD_SAMPLES ? d->clean + 1 : d->clean;
    append(d);
    d->samples++;
    d->fill++;
    if (d->fill < MD_SAMPLES) {
        return 0;
    }
    decision->sample = d->samples;
    if (d->clean < MD_SAMPLES) {
        abstain(d, decision);
    } else {
        log_powers(d);
        network(d);
        if (finite_logits(d)) {
            decide(d, decision);
        } else {
            abstain(d, decision);
        }
    }
    kept = MD_SAMPLES > MD_STEP ? MD_SAMPLES - MD_STEP : 0;
    for (c = 0; kept && c < MD_INPUTS; c++) {
        float *window = d->signal[c] + MD_PAD;
        memmove(window, window + (MD_SAMPLES - kept), (size_t)kept * sizeof *window);
    }
    d->fill = MD_SAMPLES - MD_STEP;
    return 1;
}
