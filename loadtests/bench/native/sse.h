// A reader of an event stream: decodes it in full and holds it to "nothing lost, nothing twice, in order".
//
// The events that `publisher.h` makes carry a number without gaps ("n") and the time they were due ("t"). Each reader
// knows which number comes next, also over its reconnects. All readers must see an event under one id.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOTHING UINT64_MAX
#define MAX_ID 129
#define IDS 65536

typedef enum { AWAY, CONNECTING, ASKED, READING } State;
typedef enum { MESSAGE, HELLO, GAP, LEAVE, OTHER } Kind;

typedef struct {
    int fd;
    State state;
    Body body;
    bool live;                        // its stream has begun: nothing published from now on may be missing
    bool caught_up;                   // it has all that was published before it came (back)
    bool slow, resumes, jumps;        // jumps: it was told that events are missing for it
    uint64_t expects;                 // number of the next event
    uint64_t asked_at, last_byte_at, byte_before_at;
    char *line; size_t line_len, line_cap;       // the head, or a line, that is split over reads
    Kind kind; int data_lines; uint64_t n, t;    // of the event being read
    char next_id[MAX_ID], id[MAX_ID];            // id: of the last whole event
} Reader;

static struct {
    uint64_t events, slow_events, lost, doubled, told, no_id, id_differs, malformed;
    uint64_t hellos, unrecovered, gaps, sent_away, ended, cut, refused, failed, pings, bytes;
} tally;
static Samples delay, ping_after;
static uint64_t read_at;              // when the bytes being decoded arrived
static _Atomic uint64_t published;    // number of the newest event that was, or may have been, published
static struct { uint64_t n, hash; } ids[IDS];
static char first_id[MAX_ID];         // of event 1
static bool says_hello;
static void (*came_live)(Reader *), (*came_up)(Reader *);

static uint64_t hash_of(const char *p) {
    uint64_t h = 14695981039346656037ull;
    while (*p) h = (h ^ (uint8_t)*p++) * 1099511628211ull;
    return h;
}

static void reader_began(Reader *r) {
    came_live(r);
    if (r->expects > published && !r->caught_up) came_up(r);
}

// The number after `name` in JSON, or NOTHING.
static uint64_t number(const char *p, size_t n, const char *name) {
    size_t length = strlen(name);
    const char *end = p + n, *at = n >= length ? memmem(p, n, name, length) : NULL;
    if (!at) return NOTHING;
    at += length;
    while (at < end && *at == ' ') at++;
    uint64_t value = 0;
    const char *first = at;
    while (at < end && *at >= '0' && *at <= '9') value = value * 10 + (uint64_t)(*at++ - '0');
    return at > first ? value : NOTHING;
}

static void check_id(Reader *r) {
    if (!r->next_id[0]) { tally.no_id++; return; }
    uint64_t hash = hash_of(r->next_id), slot = r->n % IDS;
    if (ids[slot].n != r->n) { ids[slot].n = r->n; ids[slot].hash = hash; }
    else if (ids[slot].hash != hash) tally.id_differs++;
    if (r->n == 1) memcpy(first_id, r->next_id, MAX_ID);
}

static void message(Reader *r) {
    if (r->n == NOTHING || r->t == NOTHING || r->data_lines != 1) { tally.malformed++; return; }
    check_id(r);
    if (r->n < r->expects) { tally.doubled++; return; }
    uint64_t missing = r->n - r->expects;
    if (r->jumps) { tally.told += missing; r->jumps = false; }
    else tally.lost += missing;
    r->expects = r->n + 1;
    if (r->slow) tally.slow_events++;
    else { tally.events++; add(&delay, read_at > r->t ? read_at - r->t : 0); }
    if (!r->caught_up && r->expects > published) came_up(r);
}

static void dispatch(Reader *r) {
    if (r->data_lines) {
        if (r->next_id[0]) memcpy(r->id, r->next_id, MAX_ID);
        switch (r->kind) {
        case MESSAGE: message(r); break;
        case HELLO:
            tally.hellos++;
            if (r->n == 0) { tally.unrecovered++; r->jumps = true; }
            if (!r->live) reader_began(r);
            break;
        case GAP: tally.gaps++; r->jumps = true; break;
        case LEAVE: tally.sent_away++; break;
        case OTHER: tally.malformed++; break;
        }
    }
    r->kind = MESSAGE;
    r->data_lines = 0;
    r->next_id[0] = 0;
}

static Kind kind_of(const char *p, size_t n) {
    static const struct { const char *name; Kind kind; } known[] = {
        {"message", MESSAGE}, {"hello", HELLO}, {"gap", GAP}, {"drain", LEAVE}, {"busy", LEAVE}, {"bye", LEAVE}, {"auth", LEAVE}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].name) == n && !memcmp(p, known[i].name, n)) return known[i].kind;
    return OTHER;
}

static void data(Reader *r, const char *p, size_t n) {
    r->data_lines++;
    if (r->kind == HELLO) { r->n = memmem(p, n, "\"recovered\":true", 16) ? 1 : 0; return; }
    r->n = number(p, n, "\"n\":");
    r->t = number(p, n, "\"t\":");
}

static void line(Reader *r, const char *p, size_t n) {
    if (n && p[n - 1] == '\r') n--;
    if (!n) { dispatch(r); return; }
    const char *colon = memchr(p, ':', n), *end = p + n, *value = colon ? colon + 1 : end;
    size_t name = colon ? (size_t)(colon - p) : n;
    if (value < end && *value == ' ') value++;
    size_t length = (size_t)(end - value);
    if (!name) {
        if (length != 4 || memcmp(value, "ping", 4)) return;
        tally.pings++;
        add(&ping_after, read_at - r->byte_before_at);
    } else if (name == 4 && !memcmp(p, "data", 4)) data(r, value, length);
    else if (name == 5 && !memcmp(p, "event", 5)) r->kind = kind_of(value, length);
    else if (name == 2 && !memcmp(p, "id", 2) && length < MAX_ID) {
        memcpy(r->next_id, value, length);
        r->next_id[length] = 0;
    } else if (name != 5 || memcmp(p, "retry", 5)) tally.malformed++;
}

static void keep(Reader *r, const char *p, size_t n) {
    if (r->line_len + n > r->line_cap) {
        r->line_cap = (r->line_len + n) * 2;
        r->line = realloc(r->line, r->line_cap);
    }
    memcpy(r->line + r->line_len, p, n);
    r->line_len += n;
}

static void lines(void *reader, const char *p, size_t n) {
    Reader *r = reader;
    for (const char *end = p + n, *feed; p < end; p = feed + 1) {
        feed = memchr(p, '\n', (size_t)(end - p));
        if (!feed) { keep(r, p, (size_t)(end - p)); return; }
        if (!r->line_len) { line(r, p, (size_t)(feed - p)); continue; }
        keep(r, p, (size_t)(feed - p));
        line(r, r->line, r->line_len);
        r->line_len = 0;
    }
}

// False: the answer is not a stream, or is over, or broken; the connection is of no more use.
static bool stream_bytes(Reader *r, char *p, size_t n) {
    tally.bytes += n;
    r->byte_before_at = r->last_byte_at;
    r->last_byte_at = read_at;
    if (r->state == READING) unframe(&r->body, p, n, lines, r);
    else {
        int status = 0;
        bool closes;
        keep(r, p, n);
        size_t head = read_head(r->line, r->line_len, &r->body, &status, &closes);
        if (!head) return r->line_len < 16384;
        if (status != 200) { tally.refused++; return false; }
        r->state = READING;
        char *first = r->line;
        size_t rest = r->line_len - head;
        r->line = NULL;
        r->line_len = r->line_cap = 0;
        if (!says_hello) reader_began(r);
        unframe(&r->body, first + head, rest, lines, r);
        free(first);
    }
    if (r->body.state == ENDED) tally.ended++;
    if (r->body.state == BROKEN) tally.malformed++;
    return r->body.state != ENDED && r->body.state != BROKEN;
}
