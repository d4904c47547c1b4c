// Every sample of a measurement, in nanoseconds, kept as it is: quantiles are exact.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct { uint64_t *ns; size_t n, cap; } Samples;

static void add(Samples *s, uint64_t ns) {
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 1 << 20;
        s->ns = realloc(s->ns, s->cap * sizeof *s->ns);
    }
    s->ns[s->n++] = ns;
}

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static double quantile_ms(const Samples *s, double q) {
    size_t i = (size_t)(q * (double)s->n);
    return (double)s->ns[i < s->n ? i : s->n - 1] / 1e6;
}

static void print_samples(const char *name, Samples *s) {
    if (!s->n) {
        printf("\"%s\":{\"n\":0,\"min\":null,\"p50\":null,\"p99\":null,\"p999\":null,\"max\":null}", name);
        return;
    }
    qsort(s->ns, s->n, sizeof *s->ns, ascending);
    printf("\"%s\":{\"n\":%zu,\"min\":%.4f,\"p50\":%.4f,\"p99\":%.4f,\"p999\":%.4f,\"max\":%.4f}", name, s->n, quantile_ms(s, 0), quantile_ms(s, .5),
           quantile_ms(s, .99), quantile_ms(s, .999), quantile_ms(s, 1));
}
