// fan: many readers of one event stream and one publisher, on the loopback. Told what to do line by line on stdin.
//
//   fan --port P --path '/api/events?topic=a' --publish-path /api/events [--topic a] [--size 200] [--hello]
//       [--sources 4] [--first-source 0] [--inflight 128] [--slow K] [--earliest PATH]
//       [--patience 10]
//
//   open TOTAL               more readers, up to TOTAL, --inflight at a time
//   publish RATE COUNT BATCH COUNT events, RATE a second (0: as fast as they are taken), BATCH in a request; waits
//                            for their arrival at every reader but the slow ones, --patience seconds at most
//   stall / resume           the first --slow readers stop reading / read again; `resume` waits until they are up to date
//   drop / return            all readers hang up / all come back at once, each with its Last-Event-ID; `return` waits
//                            until all are live and up to date
//   replay TIMES             a reader of all events from the oldest kept, TIMES times, one after the other (--earliest)
//   catchup TIMES            the same strictly after the first event, by its id
//   expect N                 N events were published before this program was started
//   wait SECONDS             only reads
//
// Each answers with one JSON object: what was asked, and what went wrong since the answer before. The readers go on
// reading between the commands. The end of stdin ends it. Without --topic an event's data is the whole body of a publish.
#define _GNU_SOURCE
#include <getopt.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "http.h"
#include "samples.h"
#include "sse.h"
#include "publisher.h"

#define OPEN_TIMEOUT (30 * SECOND)
#define SMALL_BUFFER 4096
#define NEWS (EPOLLIN | EPOLLRDHUP | EPOLLET)

static struct { int port, sources, first_source, inflight, slow; uint64_t patience; const char *path, *earliest; } o =
    {.sources = 4, .inflight = 128, .patience = 10 * SECOND, .path = "/api/events"};

static int ep;
static Reader *readers, *extra;       // extra: the reader that replays
static int opened, pending, reading, live, up;
static Samples live_after, up_after;
static uint64_t began;                // of the command
static char input[4096];
static size_t input_length;
static bool input_ended;

// ---------------------------------------------------------------- readers

static void away(Reader *r) {
    if (r->fd >= 0) close(r->fd);
    if (r->state == CONNECTING || r->state == ASKED) pending--;
    if (r->state == READING) reading--;
    if (r->live) live--;
    if (r->live && r->caught_up) up--;
    free(r->line);
    *r = (Reader){.fd = -1, .slow = r->slow, .expects = r->expects};
}

static void watch(Reader *r, int op, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = r};
    epoll_ctl(ep, op, r->fd, &e);
}

static void dial(Reader *r, long i) {
    int one = 1, small = SMALL_BUFFER, short_segments = 536;
    r->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    r->state = CONNECTING;
    pending++;
    r->asked_at = now_ns();
    if (!r->resumes) r->expects = published + 1;
    setsockopt(r->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(r->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (r->slow) {                    // else the kernels' buffers between would hold megabytes for it
        setsockopt(r->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        setsockopt(r->fd, IPPROTO_TCP, TCP_MAXSEG, &short_segments, sizeof short_segments);
    }
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(o.first_source + i % o.sources))};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)o.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    bind(r->fd, (struct sockaddr *)&from, sizeof from);
    if (r->fd < 0 || (connect(r->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)) { tally.failed++; away(r); return; }
    watch(r, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

static void ask(Reader *r) {
    char request[1024];
    const char *path = r == extra && !r->resumes ? o.earliest : o.path;
    int n = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\naccept: text/event-stream\r\n", path, o.port);
    if (r->resumes && r->id[0]) n += snprintf(request + n, sizeof request - (size_t)n, "last-event-id: %s\r\n", r->id);
    n += snprintf(request + n, sizeof request - (size_t)n, "\r\n");
    r->state = ASKED;
    r->last_byte_at = now_ns();
    watch(r, EPOLL_CTL_MOD, NEWS);
    if (send(r->fd, request, (size_t)n, MSG_NOSIGNAL) != n) { tally.failed++; away(r); }
}

static void connected(Reader *r) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(r->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) { tally.failed++; away(r); }
    else ask(r);
}

// `hung_up`: its end has arrived as well; else a short read means that all was read (edge-triggered).
static void readable(Reader *r, bool hung_up) {
    static char bytes[256 * 1024];
    for (;;) {
        ssize_t n = recv(r->fd, bytes, sizeof bytes, 0);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) { tally.cut++; away(r); return; }
        read_at = now_ns();
        State before = r->state;
        bool goes_on = stream_bytes(r, bytes, (size_t)n);
        if (before == ASKED && r->state == READING) { pending--; reading++; }
        if (!goes_on) { away(r); return; }
        if ((size_t)n < sizeof bytes && !hung_up) return;
    }
}

static void reader_live(Reader *r) { r->live = true; live++; add(&live_after, read_at - r->asked_at); }
static void reader_up(Reader *r) { r->caught_up = true; up++; add(&up_after, now_ns() - began); }

// ---------------------------------------------------------------- the loop

static void read_input(void) {
    ssize_t n = read(0, input + input_length, sizeof input - 1 - input_length);
    if (n > 0) input_length += (size_t)n;
    else { input_ended = true; epoll_ctl(ep, EPOLL_CTL_DEL, 0, NULL); }
}

static void pump(uint64_t until) {
    struct epoll_event ready[512];
    uint64_t now = now_ns(), wait = until > now ? until - now : 0;
    struct timespec timeout = {.tv_sec = (time_t)(wait / SECOND), .tv_nsec = (long)(wait % SECOND)};
    int n = epoll_pwait2(ep, ready, 512, &timeout, NULL);
    for (int i = 0; i < n; i++) {
        Reader *r = ready[i].data.ptr;
        if (ready[i].data.ptr == &pub) { uint64_t told; if (read(pub.wake, &told, 8) != 8) abort(); }
        else if (ready[i].data.ptr == input) read_input();
        else if (r->fd < 0) continue;
        else if (r->state == CONNECTING) connected(r);
        else readable(r, ready[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
    }
}

static bool next_command(char *to) {
    char *end;
    while (!(end = memchr(input, '\n', input_length))) {
        if (input_ended || input_length == sizeof input - 1) return false;
        pump(now_ns() + 3600 * SECOND);
    }
    size_t n = (size_t)(end - input);
    memcpy(to, input, n);
    to[n] = 0;
    memmove(input, end + 1, input_length -= n + 1);
    return true;
}

static void print_count(const char *name, uint64_t value) { printf("\"%s\":%llu,", name, (unsigned long long)value); }

static void print_tally(void) {
#define COUNT(name) print_count(#name, tally.name)
    COUNT(events); COUNT(slow_events); COUNT(lost); COUNT(doubled); COUNT(told); COUNT(no_id); COUNT(id_differs); COUNT(malformed);
    COUNT(hellos); COUNT(unrecovered); COUNT(gaps); COUNT(sent_away); COUNT(ended); COUNT(cut); COUNT(refused); COUNT(failed);
    COUNT(pings); COUNT(bytes);
    print_count("readers", (uint64_t)reading);
    print_count("live", (uint64_t)live);
    print_count("up", (uint64_t)up);
    Samples *all[] = {&delay, &ping_after, &live_after, &up_after, &pub.answer};
    const char *names[] = {"delay_ms", "ping_after_ms", "live_ms", "up_ms", "answer_ms"};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        print_samples(names[i], all[i]);
        printf(",");
        all[i]->n = 0;
    }
    memset(&tally, 0, sizeof tally);
}

static void answer(const char *what, double seconds) {
    print_tally();
    printf("\"seconds\":%.6f,\"did\":\"%s\"}\n", seconds, what);
    fflush(stdout);
}

static double since(uint64_t start) { return (double)(now_ns() - start) / 1e9; }

// ---------------------------------------------------------------- commands

static void open_up_to(int total) {
    int before = live, wanted = total - opened;
    uint64_t end = began + OPEN_TIMEOUT + (uint64_t)wanted * SECOND / 500;
    while (now_ns() < end && live - before + (int)(tally.failed + tally.refused + tally.cut) < wanted) {
        for (; opened < total && pending < o.inflight; opened++) dial(&readers[opened], opened);
        pump(end);
    }
    printf("{");
}

static void do_publish(double rate, long count, int batch) {
    pthread_t thread;
    pub.rate = rate; pub.batch = batch; pub.count = (count + batch - 1) / batch * batch;
    pub.accepted = pub.errors = 0;
    pub.done = false;
    int stalled = 0;
    for (int i = 0; i < o.slow; i++) stalled += readers[i].state == READING && readers[i].slow;
    uint64_t expected = (uint64_t)(live - stalled) * (uint64_t)pub.count, end = 0, last = 0, seen = tally.events;
    expected += tally.events;
    pthread_create(&thread, NULL, publish_all, NULL);
    for (;;) {
        if (tally.events != seen) { last = read_at; seen = tally.events; }
        if (pub.done && !end) end = pub.ended + o.patience;
        if (end && (tally.events >= expected || now_ns() > end)) break;
        pump(end ? end : now_ns() + SECOND);
    }
    pthread_join(thread, NULL);
    if (last < pub.ended) last = pub.ended;
    printf("{\"rate\":%.1f,\"count\":%ld,\"batch\":%d,\"accepted\":%ld,\"publish_errors\":%ld,\"publish_status\":%d,\"publish_s\":%.6f,", rate,
           pub.count, batch, pub.accepted, pub.errors, pub.last_status, (double)(pub.ended - pub.began) / 1e9);
    print_count("expected", expected);
    answer("publish", (double)(last - pub.began) / 1e9);
}

static void wait_until_up(int wanted, uint64_t timeout) {
    uint64_t end = now_ns() + timeout;
    while (up < wanted && now_ns() < end && !(input_ended && !reading && !pending)) pump(end);
}

static void come_back(void) {
    for (int i = 0; i < opened; i++) {
        readers[i].resumes = true;
        dial(&readers[i], i);
    }
    wait_until_up(opened, OPEN_TIMEOUT);
    printf("{");
}

static void hang_up(void) {
    for (int i = 0; i < opened; i++) {
        char id[MAX_ID];
        memcpy(id, readers[i].id, MAX_ID);
        away(&readers[i]);
        memcpy(readers[i].id, id, MAX_ID);
    }
    printf("{");
}

static void read_slowly(bool stall) {
    for (int i = 0; i < o.slow && i < opened; i++) {
        if (readers[i].fd < 0) continue;
        readers[i].slow = true;
        watch(&readers[i], EPOLL_CTL_MOD, stall ? 0 : NEWS);
        if (stall && readers[i].caught_up) { readers[i].caught_up = false; up--; }
        if (!stall && !readers[i].caught_up && readers[i].expects > published) reader_up(&readers[i]);
    }
    if (!stall) wait_until_up(live, o.patience);
    printf("{");
}

// One reader of what is already there; answers with the time from its request to its last event.
static void replay(long times, bool after_first) {
    int before = up;
    for (; times > 0; times--) {
        *extra = (Reader){.fd = -1, .resumes = after_first, .expects = 1 + after_first};
        if (after_first) memcpy(extra->id, first_id, MAX_ID);
        dial(extra, 0);
        extra->expects = 1 + after_first;
        began = now_ns();
        wait_until_up(before + 1, OPEN_TIMEOUT);
        if (extra->fd >= 0) away(extra);
    }
    printf("{");
}

static bool obey(const char *command) {
    char what[16] = "";
    double a = 0;
    long b = 0;
    int c = 1, words = sscanf(command, "%15s %lf %ld %d", what, &a, &b, &c);
    began = now_ns();
    if (!strcmp(what, "open") && words > 1 && a <= 200000) {
        readers = readers ? readers : calloc(200000, sizeof *readers);
        for (int i = opened; i < (int)a; i++) readers[i] = (Reader){.fd = -1, .slow = i < o.slow};
        open_up_to((int)a);
    }
    else if (!strcmp(what, "publish") && words > 2 && c > 0 && (c == 1 || pub.topic)) { do_publish(a, b, c); return true; }
    else if (!strcmp(what, "expect") && words > 1) { published = (uint64_t)a; printf("{"); }
    else if (!strcmp(what, "wait")) { for (uint64_t end = began + (uint64_t)(a * 1e9); now_ns() < end;) pump(end); printf("{"); }
    else if (!strcmp(what, "drop")) hang_up();
    else if (!strcmp(what, "return")) come_back();
    else if (!strcmp(what, "stall")) read_slowly(true);
    else if (!strcmp(what, "resume")) read_slowly(false);
    else if (!strcmp(what, "replay") && words > 1) replay((long)a, false);
    else if (!strcmp(what, "catchup") && words > 1) replay((long)a, true);
    else { fprintf(stderr, "fan: what is %s?\n", command); return false; }
    answer(what, since(began));
    return true;
}

static void options(int argc, char **argv) {
    static const struct option known[] = {
        {"port", 1, 0, 'p'}, {"path", 1, 0, 'u'}, {"publish-path", 1, 0, 'P'}, {"topic", 1, 0, 't'}, {"size", 1, 0, 'z'},
        {"hello", 0, 0, 'h'}, {"sources", 1, 0, 's'}, {"first-source", 1, 0, 'f'}, {"inflight", 1, 0, 'i'}, {"slow", 1, 0, 'k'},
        {"earliest", 1, 0, 'e'}, {"patience", 1, 0, 'w'}, {0, 0, 0, 0}};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;)
        switch (c) {
        case 'p': o.port = pub.port = atoi(optarg); break;
        case 'u': o.path = optarg; break;
        case 'P': pub.path = optarg; break;
        case 't': pub.topic = optarg; break;
        case 'z': pub.size = atoi(optarg); break;
        case 'h': says_hello = true; break;
        case 's': o.sources = atoi(optarg); break;
        case 'f': o.first_source = atoi(optarg); break;
        case 'i': o.inflight = atoi(optarg); break;
        case 'k': o.slow = atoi(optarg); break;
        case 'e': o.earliest = optarg; break;
        case 'w': o.patience = (uint64_t)(atof(optarg) * 1e9); break;
        default: exit(2);
        }
    if (!o.earliest) o.earliest = o.path;
    if (!pub.path) pub.path = "/";
    if (!o.port || o.sources < 1 || pub.size > MAX_EVENT || strlen(pub.path) > 100 || strlen(o.path) > 500 || strlen(o.earliest) > 500) {
        fprintf(stderr, "fan: --port, --size up to %d, and paths of a sane length\n", MAX_EVENT);
        exit(2);
    }
}

int main(int argc, char **argv) {
    options(argc, argv);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    ep = epoll_create1(EPOLL_CLOEXEC);
    pub.wake = eventfd(0, EFD_CLOEXEC);
    struct epoll_event line = {.events = EPOLLIN, .data.ptr = input}, done = {.events = EPOLLIN, .data.ptr = &pub};
    epoll_ctl(ep, EPOLL_CTL_ADD, 0, &line);
    epoll_ctl(ep, EPOLL_CTL_ADD, pub.wake, &done);
    came_live = reader_live;
    came_up = reader_up;
    extra = calloc(1, sizeof *extra);
    extra->fd = -1;
    for (char command[sizeof input]; next_command(command);)
        if (!obey(command)) return 2;
    return 0;
}
