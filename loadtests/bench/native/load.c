// load: a closed-loop client for streamed chat answers on the loopback.
//
//   load --port P --path /api/chat --body '{"id":"b-%d",...}' --streams 100 --tokens 100 --warm 2 --dur 4
//        [--drain 3] [--first-id 0] [--repeats 1]
//
// N streams, started evenly over the warm-up, each somewhere in its part of it: at even distances the tokens of paced
// answers would come in step, and a server gets many in one read. Each stream sends its next request when its answer
// has ended. Every %d of the body is a number no other request has. The answer's body (HTTP chunks, a length, or until
// the connection closes) is searched for the upstream's marks ~s<seq>~t<ns>~, across any split, and each stream must
// bring 0, 1, ... tokens-1, once each, in order, and come to its regular end; else it is bad. `frames` counts blank
// lines (the ends of SSE events, LF or CRLF), so that a server which puts several tokens in one event shows it. With
// --repeats 1 an answer may say its tokens again once all of them are there, as OpenAI's Responses do at their end.
//
// Prints {"phase":"measuring"} when the warm-up is over, then one JSON object when --dur seconds have been measured.
// After that it waits up to --drain seconds for the streams that still run, so that they do not run into what is
// measured next. `ttft_ms`: from just before the request is sent to the arrival of token 0, requests of the measured
// time only. `lag_ms`: per token, from the upstream's write to its arrival here.
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "http.h"
#include "samples.h"

#define SECOND 1000000000ull

typedef enum { M_NONE, M_TILDE, M_SEQ, M_SEQ_END, M_TIME } MarkState;

typedef struct {
    int fd;
    bool connecting, close_after, in_flight, wrong;
    Body body;
    char head[8192]; size_t head_len;
    bool after_newline;                  // the body so far ends in a line feed
    MarkState mark; uint64_t seq, stamp;
    long tokens;
    uint64_t sent_at;
} Stream;

static struct {
    int port, streams, repeats;
    const char *path, *body;
    long tokens, next_id;
    double warm, dur, drain;
} o = {.streams = 1, .tokens = 100, .warm = 1, .dur = 3, .drain = 3, .path = "/api/chat", .body = ""};

static int ep;
static Stream *streams;
static int started, running;
static bool measuring, stopping;
static Samples ttft, lag;
static uint64_t read_at, measured_from, tokens_seen, frames, requests, finished, bad, lost, doubled, refused, broken;
static int last_status;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

// ---------------------------------------------------------------- requests

// The template with every %d replaced by `id`; returns the length.
static size_t fill(char *to, size_t cap, const char *template, long id) {
    size_t n = 0;
    for (const char *p = template; *p && n + 24 < cap;)
        if (p[0] == '%' && p[1] == 'd') { n += (size_t)snprintf(to + n, cap - n, "%ld", id); p += 2; }
        else to[n++] = *p++;
    return n;
}

static void begin(Stream *s);

static void fail(Stream *s) {                                    // the connection is of no more use
    if (s->in_flight) { bad++; broken++; }
    s->in_flight = false;
    if (s->fd >= 0) close(s->fd);
    s->fd = -1;
    running--;
}

static void send_request(Stream *s) {
    char body[8192], request[9000];
    size_t n = fill(body, sizeof body, o.body, o.next_id++);
    int head = snprintf(request, sizeof request,
                        "POST %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
                        "accept: text/event-stream\r\ncontent-length: %zu\r\n\r\n", o.path, o.port, n);
    memcpy(request + head, body, n);
    *s = (Stream){.fd = s->fd, .in_flight = true};
    requests++;
    s->sent_at = now_ns();
    if (send(s->fd, request, (size_t)head + n, MSG_NOSIGNAL) != (ssize_t)((size_t)head + n)) fail(s);
}

static void open_stream(Stream *s) {
    int one = 1;
    *s = (Stream){.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), .connecting = true};
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)o.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(s->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS) { bad++; broken++; fail(s); return; }
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = s};
    epoll_ctl(ep, EPOLL_CTL_ADD, s->fd, &e);
}

static void connected(Stream *s) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) { bad++; broken++; fail(s); return; }
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = s};
    epoll_ctl(ep, EPOLL_CTL_MOD, s->fd, &e);
    send_request(s);
}

static void begin(Stream *s) {
    if (stopping) { if (s->fd >= 0) close(s->fd); s->fd = -1; running--; return; }
    if (s->fd >= 0 && !s->close_after) { send_request(s); return; }
    if (s->fd >= 0) close(s->fd);
    open_stream(s);
}

static void finish(Stream *s) {
    s->in_flight = false;
    finished++;
    if (s->wrong || s->tokens != o.tokens) bad++;
    if (s->tokens < o.tokens) lost += (uint64_t)(o.tokens - s->tokens);
    begin(s);
}

// ---------------------------------------------------------------- the answer

static void token(Stream *s, uint64_t arrived) {
    if (o.repeats && s->tokens == o.tokens) return;
    if (s->seq == (uint64_t)s->tokens) s->tokens++;
    else {
        s->wrong = true;
        if (s->seq < (uint64_t)s->tokens) doubled++;
        else s->tokens = (long)s->seq + 1, lost++;
    }
    if (!measuring) return;
    tokens_seen++;
    add(&lag, arrived > s->stamp ? arrived - s->stamp : 0);
    if (s->seq == 0 && s->sent_at >= measured_from) add(&ttft, arrived - s->sent_at);
}

static void count_frames(Stream *s, const char *p, size_t n) {
    for (const char *end = p + n; p < end; p++) {
        if (*p == '\r') continue;
        if (*p == '\n') { frames += s->after_newline; s->after_newline = !s->after_newline; continue; }
        s->after_newline = false;
        p = memchr(p, '\n', (size_t)(end - p));
        if (!p) return;
        s->after_newline = true;
    }
}

static void search(Stream *s, const char *p, size_t n, uint64_t arrived) {
    if (measuring) count_frames(s, p, n);
    for (const char *end = p + n; p < end; p++) {
        if (s->mark == M_NONE) {
            p = memchr(p, '~', (size_t)(end - p));
            if (!p) return;
            s->mark = M_TILDE;
            continue;
        }
        bool digit = *p >= '0' && *p <= '9';
        switch (s->mark) {
        case M_TILDE: s->mark = *p == 's' ? M_SEQ : M_NONE; s->seq = 0; break;
        case M_SEQ:
            if (digit) s->seq = s->seq * 10 + (uint64_t)(*p - '0');
            else s->mark = *p == '~' ? M_SEQ_END : M_NONE;
            break;
        case M_SEQ_END: s->mark = *p == 't' ? M_TIME : M_NONE; s->stamp = 0; break;
        case M_TIME:
            if (digit) { s->stamp = s->stamp * 10 + (uint64_t)(*p - '0'); break; }
            if (*p == '~') token(s, arrived);
            s->mark = M_NONE;
            break;
        case M_NONE: break;
        }
    }
}

static void search_body(void *s, const char *p, size_t n) {
    search(s, p, n, read_at);
}

// Reads the status line and headers; true once the body may follow. `used`: how long they are.
static bool head(Stream *s, size_t *used) {
    bool closes;
    *used = read_head(s->head, s->head_len, &s->body, &last_status, &closes);
    if (!*used) return false;
    if (last_status != 200) { refused++; s->wrong = true; }
    s->close_after = closes || last_status != 200;
    return true;
}

static void arrived_bytes(Stream *s, const char *data, size_t n) {
    if (s->body.state == HEAD) {
        size_t before = s->head_len, used, take = sizeof s->head - 1 - before < n ? sizeof s->head - 1 - before : n;
        memcpy(s->head + before, data, take);
        s->head_len += take;
        if (!head(s, &used)) { if (take < n) fail(s); return; }
        if (last_status != 200) { s->in_flight = false; bad++; fail(s); return; }
        data += used - before; n -= used - before;
    }
    unframe(&s->body, data, n, search_body, s);
    if (s->body.state == ENDED) finish(s);
    else if (s->body.state == BROKEN) fail(s);
}

static void readable(Stream *s) {
    static char data[256 * 1024];
    ssize_t n = recv(s->fd, data, sizeof data, 0);
    if (n > 0) { read_at = now_ns(); arrived_bytes(s, data, (size_t)n); }
    else if (n < 0 && errno == EAGAIN) return;
    else if (n == 0 && s->body.state == UNTIL_CLOSE) finish(s);
    else fail(s);
}

// ---------------------------------------------------------------- the run

static void pump(uint64_t until) {
    struct epoll_event ready[512];
    uint64_t now = now_ns(), wait = until > now ? until - now : 0;
    struct timespec timeout = {.tv_sec = (time_t)(wait / SECOND), .tv_nsec = (long)(wait % SECOND)};
    int n = epoll_pwait2(ep, ready, 512, &timeout, NULL);
    for (int i = 0; i < n; i++) {
        Stream *s = ready[i].data.ptr;
        if (s->fd < 0) continue;
        if (s->connecting) connected(s);
        else readable(s);
    }
}

// Multiples of the golden ratio, modulo 1, as 32 bits: they fill a range evenly, and no two of them meet.
#define GOLDEN 2654435769u

static void warm_up(uint64_t from) {
    uint64_t slot = (uint64_t)(o.warm * 0.9 * 1e9) / (uint64_t)o.streams, until = from + (uint64_t)(o.warm * 1e9);
    while (now_ns() < until || started < o.streams) {
        uint64_t into = (slot >> 16) * ((uint32_t)started * GOLDEN >> 16), next = from + slot * (uint64_t)started + into;
        if (started < o.streams && now_ns() >= next) { running++; open_stream(&streams[started++]); continue; }
        pump(started < o.streams && next < until ? next : until);
    }
}

static double cpu_s(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void print_count(const char *name, uint64_t value) {
    printf("\"%s\":%llu,", name, (unsigned long long)value);
}

static void report(double seconds, double cpu) {
    printf("{\"streams\":%d,\"running\":%d,\"seconds\":%.3f,\"client_cpu_s\":%.3f,\"tokens_per_s\":%.0f,", o.streams, running,
           seconds, cpu, (double)tokens_seen / seconds);
    print_count("requests", requests);
    print_count("finished", finished);
    print_count("bad", bad);
    print_count("lost", lost);
    print_count("doubled", doubled);
    print_count("refused", refused);
    print_count("broken", broken);
    print_count("last_status", (uint64_t)last_status);
    print_count("tokens", tokens_seen);
    print_count("frames", frames);
    print_count("next_id", (uint64_t)o.next_id);
    print_samples("ttft_ms", &ttft);
    printf(",");
    print_samples("lag_ms", &lag);
    printf("}\n");
}

static void options(int argc, char **argv) {
    static const struct option known[] = {
        {"port", 1, 0, 'p'}, {"path", 1, 0, 'u'}, {"body", 1, 0, 'b'}, {"streams", 1, 0, 's'}, {"tokens", 1, 0, 't'},
        {"warm", 1, 0, 'w'}, {"dur", 1, 0, 'd'}, {"drain", 1, 0, 'r'}, {"first-id", 1, 0, 'i'},
        {"repeats", 1, 0, 'a'}, {0, 0, 0, 0}};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;)
        switch (c) {
        case 'p': o.port = atoi(optarg); break;
        case 'u': o.path = optarg; break;
        case 'b': o.body = optarg; break;
        case 's': o.streams = atoi(optarg); break;
        case 't': o.tokens = atol(optarg); break;
        case 'w': o.warm = atof(optarg); break;
        case 'd': o.dur = atof(optarg); break;
        case 'r': o.drain = atof(optarg); break;
        case 'a': o.repeats = atoi(optarg); break;
        case 'i': o.next_id = atol(optarg); break;
        default: exit(2);
        }
    if (!o.port || strlen(o.body) > 7000) { fprintf(stderr, "load: --port and a --body under 7000 bytes\n"); exit(2); }
}

int main(int argc, char **argv) {
    options(argc, argv);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    ep = epoll_create1(EPOLL_CLOEXEC);
    streams = calloc((size_t)o.streams, sizeof *streams);
    warm_up(now_ns());
    printf("{\"phase\":\"measuring\"}\n"); fflush(stdout);
    measured_from = now_ns();
    measuring = true;
    uint64_t end = measured_from + (uint64_t)(o.dur * 1e9);
    double cpu = cpu_s();
    while (now_ns() < end && running) pump(end);
    measuring = false;
    double seconds = (double)(now_ns() - measured_from) / 1e9;
    cpu = cpu_s() - cpu;
    printf("{\"phase\":\"measured\"}\n"); fflush(stdout);
    stopping = true;
    end = now_ns() + (uint64_t)(o.drain * 1e9);
    while (now_ns() < end && running) pump(end);
    report(seconds, cpu);
    return 0;
}
