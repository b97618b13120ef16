/* One person's gesture decoder: samples in, decisions out. Written by MyoDistill.
 *
 * Memory: one md_decoder of MD_RAM_BYTES bytes, which you place; MD_TABLE_BYTES bytes of constant
 * tables; no allocation, no recursion, less than 640 bytes of stack with up to 32 channels (464
 * measured with 10 on a Cortex-M4F), and 8 more for each further one. A network that was generated
 * (md_network.c) adds static temporaries of its own, which the linker map shows, and may use 1 kB
 * of stack. Needs expf, logf, rintf and sqrtf of the C library, and IEEE floats: do not compile with
 * -ffast-math.
 *
 * @model@
 */
#ifndef MD_H
#define MD_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

@defines@
/* The sizes follow from these. */
#if MD_NETWORK
#define MD_PAD 0
#else
#define MD_PAD (MD_TAPS / 2)
#endif
#define MD_WIDEST (MD_FEATURES > MD_HIDDEN ? MD_FEATURES : MD_HIDDEN)

/* The decision not to decide. */
#define MD_REJECTED (-1)

typedef struct {
    uint32_t sample;  /* samples that had come; the window is the newest MD_SAMPLES of them */
    int32_t gesture;  /* label, or MD_REJECTED */
    int32_t prediction;   /* the network's own, adapted if it is, before the rule; or MD_REJECTED */
    float confidence; /* probability of the most probable gesture, smoothed as the rule says */
} md_decision;

#if MD_ADAPTS
/* What was learned of the wearer. Copy it before the power goes, and give it back afterwards. */
typedef struct {
    uint32_t id; /* MD_ADAPTATION, another number for each student */
    float means[MD_CLASSES][MD_CLASSES - 1];
    float variances[MD_CLASSES];
    float evidence[MD_CLASSES];
    float newest, usual; /* logarithm of the distance to the means */
    float windows;
} md_adaptation;
#endif

/* All state. Read `logits`, `abstained` and `adaptation` as you like, and set `adapting` after
 * md_init; leave the rest alone. */
typedef struct {
#if MD_ADAPTS
    int32_t adapting; /* whether to follow the wearer; 0 after md_init */
    int32_t last, performance; /* newest gesture, and for how many windows */
    md_adaptation adaptation;
#endif
    float logits[MD_CLASSES];
    uint32_t abstained; /* windows without a decision because of values that are not finite */
    uint32_t samples;   /* samples that have come */
    uint32_t clean;     /* sound samples since the last unsound one */
    int32_t fill;       /* samples in the window; below 0 while some are passed over */
    int32_t started;    /* whether every channel has given a finite value */
    int32_t current, held;
    int32_t predictions, newest_prediction;
    int32_t smoothed, newest_probability;
    int32_t votes[MD_VOTES];
    float probabilities[MD_SMOOTHING][MD_CLASSES];
    float newest[MD_CHANNELS];
    float first[MD_CHANNELS];
    float filter[MD_CHANNELS][MD_SECTIONS][2];
    float signal[MD_INPUTS][MD_SAMPLES + 2 * MD_PAD]; /* zeros on both sides of the window */
#if !MD_NETWORK
    float block[MD_INPUTS][MD_ROW];
    float covariance[MD_INPUTS][MD_INPUTS];
    float features[MD_FEATURES]; /* and what layers give, in turn with the next */
    float hidden[MD_HIDDEN];
#endif
#if MD_INT8
    uint8_t quantised[(MD_WIDEST + 3) / 4 * 4];
#endif
} md_decoder;

/* Names of the gestures in label order, MD_CLASSES of them. */
extern const char *const md_gestures[MD_CLASSES];

/* Begin anew. Call it once before the first sample. */
void md_init(md_decoder *decoder);

/* Take one sample of every channel, in MD_UNIT, MD_RATE_HZ times a second.
 * Returns 1 and fills `decision` when the sample completes a window, else 0. */
int md_push(md_decoder *decoder, const float sample[MD_CHANNELS], md_decision *decision);

#if MD_ADAPTS
/* Forget what was learned of the wearer. */
void md_forget(md_decoder *decoder);

/* Go on with what was learned before. Returns 0, and changes nothing, if it is another student's
 * or is damaged; else 1. */
int md_remember(md_decoder *decoder, const md_adaptation *learned);
#endif

#ifdef __cplusplus
}
#endif

#endif
