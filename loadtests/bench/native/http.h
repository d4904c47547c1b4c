// The body of an HTTP/1.1 answer, taken out of its framing: chunks, a length, or until the connection closes.
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef enum { HEAD, SIZE, SIZE_LINE, DATA, DATA_END, TRAILER, LENGTH, UNTIL_CLOSE, ENDED, BROKEN } Framing;

typedef struct {
    Framing state;
    uint64_t left;        // bytes of the current chunk, or of the body
    bool sized;           // the chunk's size has a digit
    bool line_empty;      // of a trailer
} Body;

typedef void (*Take)(void *who, const char *p, size_t n);

// What the head says of the body: the length of "...\r\n\r\n", or 0 while it is not whole. `status` and `closes` are set.
static size_t read_head(char *p, size_t n, Body *body, int *status, bool *closes) {
    char *end = memmem(p, n, "\r\n\r\n", 4);
    if (!end) return 0;
    *end = 0;
    char *length = strcasestr(p, "\r\ncontent-length:");
    bool chunked = strcasestr(p, "\r\ntransfer-encoding: chunked");
    *status = end - p > 12 ? atoi(p + 9) : 0;
    body->left = length && !chunked ? strtoull(length + 17, NULL, 10) : 0;
    body->state = chunked ? SIZE : !length ? UNTIL_CLOSE : body->left ? LENGTH : ENDED;
    body->sized = false;
    *closes = body->state == UNTIL_CLOSE || strcasestr(p, "\r\nconnection: close");
    return (size_t)(end + 4 - p);
}

static int hex(char c) {
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

static void framing_byte(Body *b, char c) {
    switch (b->state) {
    case SIZE:
        if (hex(c) >= 0) { b->left = b->left * 16 + (uint64_t)hex(c); b->sized = true; break; }
        b->state = b->sized ? SIZE_LINE : BROKEN;
        if (c != '\n') break;
        // fall through - a bare line feed ends the line as well
    case SIZE_LINE:
        if (c != '\n' || b->state == BROKEN) break;
        b->state = b->left ? DATA : TRAILER;
        b->line_empty = true;
        break;
    case DATA_END:
        if (c == '\r') break;
        b->state = c == '\n' ? SIZE : BROKEN;
        b->sized = false;
        break;
    case TRAILER:
        if (c == '\n' && b->line_empty) b->state = ENDED;
        else if (c == '\n') b->line_empty = true;
        else if (c != '\r') b->line_empty = false;
        break;
    default: break;
    }
}

// Hands every piece of the body to `take`, as it lies in these bytes. What follows the end is left alone.
static void unframe(Body *b, const char *p, size_t n, Take take, void *who) {
    const char *end = p + n;
    if (b->state == UNTIL_CLOSE) { take(who, p, n); return; }
    while (p < end && b->state != ENDED && b->state != BROKEN) {
        if (b->state != DATA && b->state != LENGTH) { framing_byte(b, *p++); continue; }
        size_t some = (size_t)(end - p) < b->left ? (size_t)(end - p) : (size_t)b->left;
        take(who, p, some);
        p += some;
        b->left -= some;
        if (!b->left) b->state = b->state == LENGTH ? ENDED : DATA_END;
    }
}
