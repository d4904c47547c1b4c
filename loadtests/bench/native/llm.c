// llm: a fake OpenAI-compatible upstream, fast enough that what stands before it is what gets measured.
//
//   llm PORT
//
// POST .../completions streams as many tokens as the request's text asks for with T=<count> (100), one every
// I=<microseconds> (20000; 0: as fast as the reader takes them). A token's text is "~s<seq>~t<ns>~ ", where ns is
// CLOCK_MONOTONIC just before the write: whoever finds that mark at the far end knows how long it travelled.
// One HTTP chunk and one send() per token, as real servers flush them. Anything else is answered with a model list.
//
// A paced stream whose reader is slow keeps its pace into a buffer, so the wait shows as lag; an unpaced one waits.
// Loopback only, one process, ends with its parent. Linux 5.11 or later (epoll_pwait2).
#define _GNU_SOURCE
#include <errno.h>
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

#define SECOND 1000000000ull
#define MAX_QUEUES 16

typedef struct Conn Conn;

// Streams of one interval, in order of their next token. A token sent goes to the tail with one interval more, so
// the order keeps itself and no heap is needed.
typedef struct { uint64_t interval; Conn *head, *tail; } Queue;

struct Conn {
    int fd;
    char *in; size_t in_len, in_cap;
    char *out; size_t out_at, out_len, out_cap;
    bool streaming, watching_out;
    long sent, total;
    uint64_t due;
    Queue *queue;                       // NULL: not waiting for a token
    Conn *before, *after;
};

static int ep;
static Queue queues[MAX_QUEUES];
static int queue_count;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

// ---------------------------------------------------------------- queues

static Queue *queue_for(uint64_t interval) {
    for (int i = 0; i < queue_count; i++)
        if (queues[i].interval == interval) return &queues[i];
    if (queue_count == MAX_QUEUES) { fprintf(stderr, "llm: more than %d intervals\n", MAX_QUEUES); exit(2); }
    queues[queue_count].interval = interval;
    return &queues[queue_count++];
}

static void enqueue(Queue *q, Conn *c) {
    Conn *left = q->tail;
    while (left && left->due > c->due) left = left->before;      // rarely a step: only after being late
    c->queue = q; c->before = left;
    c->after = left ? left->after : q->head;
    if (c->after) c->after->before = c; else q->tail = c;
    if (left) left->after = c; else q->head = c;
}

static void dequeue(Conn *c) {
    Queue *q = c->queue;
    if (!q) return;
    if (c->before) c->before->after = c->after; else q->head = c->after;
    if (c->after) c->after->before = c->before; else q->tail = c->before;
    c->queue = NULL;
}

// ---------------------------------------------------------------- writing

static void watch_out(Conn *c, bool on) {
    struct epoll_event e = {.events = EPOLLIN | (on ? EPOLLOUT : 0u), .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
    c->watching_out = on;
}

static void keep(Conn *c, const char *data, size_t n) {
    if (c->out_at == c->out_len) c->out_at = c->out_len = 0;
    if (c->out_len + n > c->out_cap) {
        c->out_cap = (c->out_len + n) * 2;
        c->out = realloc(c->out, c->out_cap);
    }
    memcpy(c->out + c->out_len, data, n);
    c->out_len += n;
}

static bool put(Conn *c, const char *data, size_t n) {           // false: the peer is gone
    ssize_t sent = 0;
    if (c->out_at == c->out_len) sent = send(c->fd, data, n, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN) return false;
        sent = 0;
    }
    if ((size_t)sent < n) {
        keep(c, data + sent, n - (size_t)sent);
        if (!c->watching_out) watch_out(c, true);
    }
    return true;
}

static bool put_chunk(Conn *c, const char *event, int n) {
    char chunk[1100];
    int head = snprintf(chunk, sizeof chunk, "%x\r\n", n);
    memcpy(chunk + head, event, (size_t)n);
    memcpy(chunk + head + n, "\r\n", 2);
    return put(c, chunk, (size_t)(head + n + 2));
}

#define CHUNK "data: {\"id\":\"chatcmpl-0123456789abcdefghijklmn\",\"object\":\"chat.completion.chunk\"," \
              "\"created\":1760000000,\"model\":\"bench\",\"system_fingerprint\":\"fp_bench\",\"choices\":["
#define CHOICE(delta, reason) "{\"index\":0,\"delta\":{" delta "},\"logprobs\":null,\"finish_reason\":" reason "}"

static bool put_token(Conn *c) {
    char event[1000];
    int n = snprintf(event, sizeof event, CHUNK CHOICE("\"content\":\"~s%ld~t%llu~ \"", "null") "]}\n\n", c->sent,
                     (unsigned long long)now_ns());
    c->sent++;
    return put_chunk(c, event, n);
}

static bool put_role(Conn *c) {
    static const char event[] = CHUNK CHOICE("\"role\":\"assistant\",\"content\":\"\",\"refusal\":null", "null") "]}\n\n";
    return put_chunk(c, event, sizeof event - 1);
}

static bool put_end(Conn *c) {
    static const char finish[] = CHUNK CHOICE("", "\"stop\"") "]}\n\n";
    static const char done[] = "data: [DONE]\n\n";
    char usage[1000];
    int n = snprintf(usage, sizeof usage, CHUNK "],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":%ld,\"total_tokens\":%ld}}\n\n",
                     c->total, c->total + 10);
    c->streaming = false;
    return put_chunk(c, finish, sizeof finish - 1) && put_chunk(c, usage, n) && put_chunk(c, done, sizeof done - 1) &&
           put(c, "0\r\n\r\n", 5);
}

// ---------------------------------------------------------------- requests

static long knob(const char *body, size_t n, const char *name, long otherwise) {
    const char *at = memmem(body, n, name, strlen(name));
    return at ? atol(at + strlen(name)) : otherwise;
}

static bool start_stream(Conn *c, const char *body, size_t n) {
    static const char head[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                               "cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";
    uint64_t interval = (uint64_t)knob(body, n, "I=", 20000) * 1000;
    c->sent = 0; c->total = knob(body, n, "T=", 100);
    c->streaming = true;
    c->due = interval ? now_ns() + interval : 0;
    bool alive = put(c, head, sizeof head - 1) && put_role(c);
    if (alive && interval) alive = put_token(c);
    enqueue(queue_for(interval), c);
    return alive;
}

static bool list_models(Conn *c) {
    static const char json[] = "{\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"object\":\"model\",\"created\":1,\"owned_by\":\"bench\"}]}";
    char answer[400];
    int n = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s",
                     sizeof json - 1, json);
    return put(c, answer, (size_t)n);
}

// Length of the request's body, or -1 while it is not all here.
static long body_length(const char *head, size_t head_len, size_t here) {
    const char *key = strcasestr(head, "\r\ncontent-length:");
    if (key && key < head + head_len) {
        long length = atol(key + 17);
        return (size_t)length <= here ? length : -1;
    }
    key = strcasestr(head, "\r\ntransfer-encoding: chunked");
    if (!key || key >= head + head_len) return 0;
    const char *end = memmem(head + head_len, here, "0\r\n\r\n", 5);
    return end ? end + 5 - (head + head_len) : -1;
}

static bool next_request(Conn *c) {
    while (!c->streaming && c->in_len) {
        c->in[c->in_len] = 0;
        char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
        if (!end) return c->in_len < 65536;
        size_t head = (size_t)(end + 4 - c->in);
        long body = body_length(c->in, head, c->in_len - head);
        if (body < 0) return true;
        char *line_end = memmem(c->in, head, "\r\n", 2);
        bool chat = memmem(c->in, (size_t)(line_end - c->in), "/completions ", 13) != NULL;
        if (!(chat ? start_stream(c, c->in + head, (size_t)body) : list_models(c))) return false;
        c->in_len -= head + (size_t)body;
        memmove(c->in, c->in + head + body, c->in_len);
    }
    return true;
}

// ---------------------------------------------------------------- connections

static void drop(Conn *c) {
    dequeue(c);
    close(c->fd);
    free(c->in); free(c->out); free(c);
}

static bool step(Conn *c) {                                      // the next token of a stream that is due
    Queue *q = c->queue;
    dequeue(c);
    if (c->sent == c->total) return put_end(c) && next_request(c);
    if (!put_token(c)) return false;
    if (q->interval) c->due += q->interval;
    if (q->interval || !c->watching_out) enqueue(q, c);
    return true;
}

static bool readable(Conn *c) {
    if (c->in_cap - c->in_len < 16384) {
        c->in_cap = c->in_len + 32768;
        c->in = realloc(c->in, c->in_cap + 1);
    }
    ssize_t n = recv(c->fd, c->in + c->in_len, c->in_cap - c->in_len, 0);
    if (n <= 0) return n < 0 && errno == EAGAIN;
    c->in_len += (size_t)n;
    return next_request(c);
}

static bool writable(Conn *c) {
    ssize_t n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN;
    c->out_at += (size_t)n;
    if (c->out_at < c->out_len) return true;
    watch_out(c, false);
    if (c->streaming && !c->queue) enqueue(queue_for(0), c);     // an unpaced stream that had to wait
    return true;
}

static void accept_all(int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        Conn *c = calloc(1, sizeof *c);
        c->fd = fd;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
    }
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 4096) < 0) { perror("llm: listen"); exit(1); }
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
    return fd;
}

static struct timespec until_due(void) {
    uint64_t now = now_ns(), wait = SECOND;
    for (int i = 0; i < queue_count; i++) {
        if (!queues[i].head) continue;
        uint64_t due = queues[i].head->due, left = due > now ? due - now : 0;
        if (left < wait) wait = left;
    }
    return (struct timespec){.tv_sec = (time_t)(wait / SECOND), .tv_nsec = (long)(wait % SECOND)};
}

static void send_due(void) {
    uint64_t now = now_ns();
    for (int i = 0; i < queue_count; i++) {
        Queue *q = &queues[i];
        Conn *last = q->tail;                                    // one token a stream, then the sockets again
        for (bool more = last != NULL; more && q->head && q->head->due <= now;) {
            Conn *c = q->head;
            more = c != last;
            if (!step(c)) drop(c);
        }
    }
}

int main(int argc, char **argv) {
    if (argc < 2) { fprintf(stderr, "usage: llm PORT\n"); return 2; }
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    ep = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on(atoi(argv[1]));
    for (;;) {
        struct epoll_event ready[512];
        struct timespec wait = until_due();
        int n = epoll_pwait2(ep, ready, 512, &wait, NULL);
        for (int i = 0; i < n; i++) {
            Conn *c = ready[i].data.ptr;
            if (!c) { accept_all(listener); continue; }
            bool alive = !(ready[i].events & EPOLLOUT) || writable(c);
            if (alive && ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) alive = readable(c);
            if (!alive) drop(c);
        }
        send_due();
    }
}
