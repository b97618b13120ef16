/* The network of md.c as a shared library, for a reader that filters and decides itself. */
#include "md.c"

/* The reader filters channels one for one. */
typedef char md_inputs_are_channels[MD_INPUTS == MD_CHANNELS ? 1 : -1];

/* Bytes of the memory that md_logits works in. */
int32_t md_bytes(void)
{
    return (int32_t)sizeof(md_decoder);
}

/* One filtered window, MD_INPUTS rows of MD_SAMPLES, to MD_CLASSES logits. Zero `decoder` once
 * before the first call; it holds nothing from one call to the next. */
void md_logits(md_decoder *decoder, const float *window, float *logits)
{
    int i;
    for (i = 0; i < MD_INPUTS; i++) {
        memcpy(decoder->signal[i] + MD_PAD, window + i * MD_SAMPLES, MD_SAMPLES * sizeof *window);
    }
    network(decoder);
    memcpy(logits, decoder->logits, sizeof decoder->logits);
}
