/* The network of md.c as a shared library, for a reader that filters and decides itself. */
#include "md.c"

/* Bytes of the memory that md_logits works in. */
int32_t md_bytes(void)
{
    return (int32_t)sizeof(md_decoder);
}

/* One filtered window, MD_CHANNELS rows of MD_SAMPLES, to MD_CLASSES logits. Zero `decoder` once
 * before the first call; it holds nothing from one call to the next. */
void md_logits(md_decoder *decoder, const float *window, float *logits)
{
    int i;
    for (i = 0; i < MD_INPUTS; i++) {
        float *row = decoder->signal[i] + MD_PAD;
#if MD_MAPPED
        int c, t;
        for (t = 0; t < MD_SAMPLES; t++) {
            row[t] = 0.0f;
        }
        for (c = 0; c < MD_CHANNELS; c++) {
            for (t = 0; t < MD_SAMPLES; t++) {
                row[t] += md_map[i][c] * window[c * MD_SAMPLES + t];
            }
        }
#else
        memcpy(row, window + i * MD_SAMPLES, MD_SAMPLES * sizeof *window);
#endif
    }
    network(decoder);
    memcpy(logits, decoder->logits, sizeof decoder->logits);
}
