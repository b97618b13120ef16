/* The front of md.c in vectors, for a library on a computer: samples or bands side by side. It takes
 * GCC's vectors, which compilers break up for processors that have shorter ones. */

#define MD_LONG 8                       /* samples side by side */
#define MD_LANES (MD_BANDS > 4 ? 8 : 4) /* bands side by side */
#define MD_ROUNDED ((MD_SAMPLES + MD_LONG - 1) / MD_LONG * MD_LONG)

#ifdef __clang__
#define MD_UNROLL
#else
#define MD_UNROLL _Pragma("GCC unroll 8")
#endif

typedef float md_long __attribute__((vector_size(4 * MD_LONG), aligned(4), may_alias));
typedef float md_lanes __attribute__((vector_size(4 * MD_LANES), aligned(4)));
typedef int32_t md_mask __attribute__((vector_size(4 * MD_LANES), aligned(4)));

/* A decoder, and room for what it computes side by side. */
typedef struct {
    md_decoder decoder;
    float filtered[MD_BANDS][MD_INPUTS][MD_ROUNDED]; /* zeros after the window */
    md_lanes covariance[MD_INPUTS][MD_INPUTS];
    md_lanes rows[MD_INPUTS][MD_INPUTS];
    md_lanes projections[MD_PROJECTIONS][MD_INPUTS]; /* md_projections, with zeros for no band */
} md_wide;

static void widen(md_wide *w)
{
    int b, p, i;
    memset(w->filtered, 0, sizeof w->filtered);
    memset(w->covariance, 0, sizeof w->covariance);
    memset(w->projections, 0, sizeof w->projections);
    for (b = 0; b < MD_BANDS; b++) {
        for (p = 0; p < MD_PROJECTIONS; p++) {
            for (i = 0; i < MD_INPUTS; i++) {
                w->projections[p][i][b] = md_projections[b][p][i];
            }
        }
    }
}

static inline float sum_of(md_long v)
{
    float sums[MD_LONG];
    int n, l;
    memcpy(sums, &v, sizeof v);
    MD_UNROLL
    for (n = MD_LONG / 2; n; n /= 2) {
        for (l = 0; l < n; l++) {
            sums[l] += sums[l + n];
        }
    }
    return sums[0];
}

static inline float dot(const float *a, const float *b, int n)
{
    md_long sums = {0.0f};
    float rest = 0.0f;
    int t;
    for (t = 0; t + MD_LONG <= n; t += MD_LONG) {
        sums += *(const md_long *)(a + t) * *(const md_long *)(b + t);
    }
    for (; t < n; t++) {
        rest += a[t] * b[t];
    }
    return sum_of(sums) + rest;
}

/* All bands of one channel; the last samples are laid over those before, as in band_block. */
static inline void filter_bands(md_wide *w, int i)
{
    const float *x = w->decoder.signal[i];
    int begin, b, k;
    for (begin = 0; begin < MD_SAMPLES; begin += MD_LONG) {
        const int start = begin + MD_LONG <= MD_SAMPLES ? begin : MD_SAMPLES - MD_LONG;
        md_long sums[MD_BANDS];
        for (b = 0; b < MD_BANDS; b++) {
            sums[b] = md_taps[b][MD_PAD] * *(const md_long *)(x + start + MD_PAD);
        }
        for (k = 0; k < MD_PAD; k++) {
            const md_long both = *(const md_long *)(x + start + k) +
                                 *(const md_long *)(x + start + MD_TAPS - 1 - k);
            MD_UNROLL
            for (b = 0; b < MD_BANDS; b++) {
                sums[b] += md_taps[b][k] * both;
            }
        }
        for (b = 0; b < MD_BANDS; b++) {
            *(md_long *)(w->filtered[b][i] + start) = sums[b];
        }
    }
}

static inline void covariances(md_wide *w)
{
    int b, i, j;
    for (i = 0; i < MD_INPUTS; i++) {
        filter_bands(w, i);
    }
    for (i = 0; i < MD_INPUTS; i++) {
        for (j = i; j < MD_INPUTS; j++) {
            for (b = 0; b < MD_BANDS; b++) {
                const float sum = dot(w->filtered[b][i], w->filtered[b][j], MD_ROUNDED);
                w->covariance[j][i][b] = w->covariance[i][j][b] = sum / (float)MD_SAMPLES;
            }
        }
    }
}

#if MD_LOGARITHM
static inline md_lanes pick(md_mask which, md_lanes a, md_lanes b)
{
    return (md_lanes)((which & (md_mask)a) | (~which & (md_mask)b));
}

static inline md_lanes root(md_lanes v)
{
    int l;
    for (l = 0; l < MD_LANES; l++) {
        v[l] = sqrtf(v[l]);
    }
    return v;
}

static inline md_lanes logarithm(md_lanes v)
{
    int b;
    for (b = 0; b < MD_BANDS; b++) {
        v[b] = logf(v[b]);
    }
    return v;
}

static inline md_lanes product(const md_lanes *a, const md_lanes *b)
{
    md_lanes sum = {0.0f};
    int k;
    for (k = 0; k < MD_INPUTS; k++) {
        sum += a[k] * b[k];
    }
    return sum;
}

static inline void whiten(md_wide *w)
{
    md_lanes column[MD_INPUTS];
    int i, j;
    for (i = 0; i < MD_INPUTS; i++) {
        for (j = 0; j < MD_INPUTS; j++) {
            column[j] = product(w->covariance[j], w->projections[i]);
        }
        for (j = i; j < MD_INPUTS; j++) {
            w->rows[i][j] = product(w->projections[j], column);
        }
    }
}

/* As in md.c, band beside band. */
static inline md_lanes factorise(md_lanes (*m)[MD_INPUTS])
{
    md_lanes power = {0.0f}, scale, ridge;
    int i, j, k;
    for (i = 0; i < MD_INPUTS; i++) {
        power += m[i][i];
    }
    power /= (float)MD_INPUTS;
    scale = power + FLT_MIN;
    ridge = MD_SHRINKAGE * power + FLT_MIN;
    for (i = 0; i < MD_INPUTS; i++) {
        for (j = 0; j < i; j++) {
            m[i][j] = (md_lanes){0.0f};
        }
        m[i][i] += ridge;
        for (; j < MD_INPUTS; j++) {
            m[i][j] /= scale;
        }
    }
    for (k = 0; k < MD_INPUTS; k++) {
        const md_lanes least = (md_lanes){0.0f} + FLT_EPSILON;
        const md_lanes pivot = root(pick(m[k][k] < least, least, m[k][k]));
        m[k][k] = pick(m[k][k] < least, least, m[k][k]);
        for (j = k; j < MD_INPUTS; j++) {
            m[k][j] /= pivot;
        }
        for (i = k + 1; i < MD_INPUTS; i++) {
            for (j = i; j < MD_INPUTS; j++) {
                m[i][j] -= m[k][i] * m[k][j];
            }
        }
    }
    return scale;
}

static inline void rotate(md_lanes *restrict x, md_lanes *restrict y, md_lanes *a, md_lanes *b)
{
    const md_lanes twice = 2.0f * product(x, y), gap = *a - *b;
    const md_mask longer = gap >= 0.0f;
    const md_lanes size = pick(longer, gap, -gap) + 1e-15f;
    const md_lanes tangent = twice / (size + root(size * size + twice * twice));
    const md_lanes one = 1.0f / root(1.0f + tangent * tangent), other = tangent * one;
    const md_lanes cosine = pick(longer, one, other), sine = pick(longer, other, one);
    const md_lanes moved = 0.5f * tangent * twice, first = *a, second = *b;
    int k;
    *a = pick(longer, first, second) + moved;
    *b = pick(longer, second, first) - moved;
    for (k = 0; k < MD_INPUTS; k++) {
        const md_lanes xk = x[k], yk = y[k];
        x[k] = cosine * xk + sine * yk;
        y[k] = cosine * yk - sine * xk;
    }
}

static inline void matrix_log(md_wide *w)
{
    md_lanes (*m)[MD_INPUTS] = w->rows;
    md_lanes lengths[MD_INPUTS], sum[MD_INPUTS * (MD_INPUTS + 1) / 2];
    const md_lanes of_scale = logarithm(factorise(m));
    float *feature = w->decoder.features;
    int sweep, b, i, j, k;
    for (sweep = 0; sweep < MD_SWEEPS; sweep++) {
        for (i = 0; i < MD_INPUTS; i++) {
            lengths[i] = product(m[i], m[i]);
        }
        for (i = 0; i < MD_INPUTS; i++) {
            for (j = i + 1; j < MD_INPUTS; j++) {
                rotate(m[i], m[j], &lengths[i], &lengths[j]);
            }
        }
    }
    memset(sum, 0, sizeof sum);
    for (k = 0; k < MD_INPUTS; k++) {
        const md_lanes value = product(m[k], m[k]), weight = logarithm(value) / value;
        md_lanes *entry = sum;
        for (i = 0; i < MD_INPUTS; i++) {
            const md_lanes diagonal = weight * m[k][i], beside = 1.41421356f * diagonal;
            *entry += diagonal * m[k][i];
            if (k == i) {
                *entry += of_scale;
            }
            entry++;
            for (j = i + 1; j < MD_INPUTS; j++) {
                *entry++ += beside * m[k][j];
            }
        }
    }
    for (b = 0; b < MD_BANDS; b++) {
        for (i = 0; i < MD_INPUTS * (MD_INPUTS + 1) / 2; i++) {
            *feature++ = sum[i][b];
        }
    }
}

static inline void front(md_decoder *d)
{
    md_wide *w = (md_wide *)d; /* its first member */
    covariances(w);
    whiten(w);
    matrix_log(w);
}
#else
static inline void front(md_decoder *d)
{
    md_wide *w = (md_wide *)d; /* its first member */
    int b, p, i, j;
    covariances(w);
    for (p = 0; p < MD_PROJECTIONS; p++) {
        const md_lanes *v = w->projections[p];
        md_lanes power = {0.0f};
        for (i = 0; i < MD_INPUTS; i++) {
            md_lanes sum = {0.0f};
            for (j = i + 1; j < MD_INPUTS; j++) {
                sum += w->covariance[i][j] * v[j];
            }
            power += v[i] * (2.0f * sum + w->covariance[i][i] * v[i]);
        }
        for (b = 0; b < MD_BANDS; b++) {
            d->features[b * MD_PROJECTIONS + p] =
                logf((power[b] > 0.0f ? power[b] : 0.0f) + MD_EPSILON);
        }
    }
}
#endif
