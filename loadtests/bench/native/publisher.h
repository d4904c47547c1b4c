// One publisher in a thread of its own: events at a steady pace, or as fast as they are taken, over one connection.
//
// An event's time is when it was due, so a publisher that is kept waiting makes its events late, not fewer.
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ull
#define MAX_EVENT 65536
#define TOO_LATE (5 * SECOND)

static struct {
    int port, size, batch;            // bytes of one event's data; events in one request
    const char *path, *topic;         // no topic: the body is the event's data alone, and one to a request
    double rate;                      // events a second; 0: as fast as they are taken
    long count;
    long accepted, errors;
    int last_status;
    uint64_t began, ended;
    Samples answer;                   // from sending a request to its answer
    atomic_bool done;
    int wake;                         // eventfd, readable when done
} pub = {.size = 200, .batch = 1};

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static void sleep_until(uint64_t ns) {
    struct timespec t = {.tv_sec = (time_t)(ns / SECOND), .tv_nsec = (long)(ns % SECOND)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {}
}

static int pub_connect(void) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)pub.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval timeout = {.tv_sec = 20};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0) return fd;
    close(fd);
    return -1;
}

// `batch` events from number `n` on, in JSON; returns the length.
static size_t write_events(char *to, uint64_t n, int batch, uint64_t due) {
    char *p = to;
    if (batch > 1) *p++ = '[';
    for (int i = 0; i < batch; i++, n++) {
        if (i) *p++ = ',';
        if (pub.topic) p += sprintf(p, "{\"topic\":\"%s\",\"data\":", pub.topic);
        char *start = p;
        p += sprintf(p, "{\"n\":%llu,\"t\":%llu,\"p\":\"", (unsigned long long)n, (unsigned long long)due);
        long pad = pub.size - (p - start) - 2;
        if (pad > 0) { memset(p, 'x', (size_t)pad); p += pad; }
        *p++ = '"'; *p++ = '}';
        if (pub.topic) *p++ = '}';
    }
    if (batch > 1) *p++ = ']';
    return (size_t)(p - to);
}

static void ignore(void *who, const char *p, size_t n) { (void)who; (void)p; (void)n; }

static bool send_all(int fd, const char *p, size_t n) {
    while (n) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
        if (sent <= 0) return false;
        p += sent; n -= (size_t)sent;
    }
    return true;
}

// Reads one answer; false when the connection is of no more use.
static bool read_answer(int fd) {
    static char bytes[16384];
    Body body = {.state = HEAD};
    bool closes = false;
    size_t have = 0;
    pub.last_status = 0;
    while (body.state != ENDED && body.state != BROKEN) {
        ssize_t n = recv(fd, bytes + have, sizeof bytes - 1 - have, 0);
        if (n <= 0) return false;
        if (body.state != HEAD) { unframe(&body, bytes, (size_t)n, ignore, NULL); continue; }
        have += (size_t)n;
        size_t head = read_head(bytes, have, &body, &pub.last_status, &closes);
        if (head) { unframe(&body, bytes + head, have - head, ignore, NULL); have = 0; }
    }
    return body.state == ENDED && !closes;
}

// One request of `batch` events; true when they were accepted. `fd` is -1 when the connection cannot be used again.
static bool publish(int *fd, int batch, uint64_t due) {
    static char *request;
    if (!request) request = malloc(MAX_EVENT * 2 + 1000 * (size_t)(pub.size + 300));
    if (*fd < 0 && (*fd = pub_connect()) < 0) return false;
    uint64_t n = atomic_fetch_add(&published, (uint64_t)batch) + 1;
    size_t room = 256, length = write_events(request + room, n, batch, due ? due : now_ns());
    char head[256];
    int head_length = snprintf(head, sizeof head, "POST %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
                               "content-length: %zu\r\n\r\n", pub.path, pub.port, length);
    char *start = memcpy(request + room - head_length, head, (size_t)head_length);
    uint64_t sent_at = now_ns();
    bool usable = send_all(*fd, start, (size_t)head_length + length) && read_answer(*fd);
    if (!usable) { close(*fd); *fd = -1; }
    add(&pub.answer, now_ns() - sent_at);
    return pub.last_status >= 200 && pub.last_status < 300;
}

static void *publish_all(void *nothing) {
    int fd = pub_connect();
    uint64_t start = now_ns() + 20000000ull;
    sleep_until(start);
    pub.began = start;
    for (long sent = 0; sent < pub.count; sent += pub.batch) {
        uint64_t due = pub.rate > 0 ? start + (uint64_t)((double)sent * 1e9 / pub.rate) : 0;
        if (due) sleep_until(due);
        if (due && now_ns() > due + TOO_LATE) break;
        if (publish(&fd, pub.batch, due)) pub.accepted += pub.batch;
        else pub.errors++;
    }
    pub.ended = now_ns();
    if (fd >= 0) close(fd);
    pub.done = true;
    if (write(pub.wake, &(uint64_t){1}, 8) != 8) abort();
    return nothing;
}
