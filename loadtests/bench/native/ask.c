// ask: one connection to a Redis server that sends requests one after the other, each when the reply before is there.
//
//   ask PORT SECONDS FILE
//
// FILE holds requests, used in turns: a line "BEFORE AFTER", then so many bytes before the number of the request, and
// so many after it. The number counts from 1 and is put between them as a string of 12 digits. Each reply must be one
// string. Prints one JSON object: requests, seconds, ms.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "samples.h"

#define NUMBER "$12\r\n%012d\r\n"
#define NUMBER_LENGTH 19
#define MOST 4096

static struct { char *bytes; size_t length, number_at; } requests[MOST];
static int count;

static void fail(const char *why, const char *what) {
    fprintf(stderr, "ask: %s %.200s\n", why, what);
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void load(const char *path) {
    FILE *file = fopen(path, "rb");
    size_t before, after;
    if (!file) fail("cannot read", path);
    while (count < MOST && fscanf(file, "%zu %zu", &before, &after) == 2) {
        char *bytes = malloc(before + NUMBER_LENGTH + after);
        fgetc(file);                                     // the end of the line
        if (fread(bytes, 1, before, file) != before || fread(bytes + before + NUMBER_LENGTH, 1, after, file) != after)
            fail("too short:", path);
        requests[count].bytes = bytes;
        requests[count].length = before + NUMBER_LENGTH + after;
        requests[count++].number_at = before;
    }
    fclose(file);
    if (!count) fail("no request in", path);
}

static void take_reply(int fd) {
    static char reply[1 << 20];
    size_t have = 0, want = 0;
    do {
        ssize_t n = read(fd, reply + have, sizeof reply - 1 - have);
        if (n <= 0) fail("the server has hung up", "");
        have += (size_t)n;
        reply[have] = 0;
        char *end = strstr(reply, "\r\n");
        if (reply[0] != '$' || atol(reply + 1) < 0) fail("no string:", reply);
        if (end) want = (size_t)(end - reply) + 4 + (size_t)atol(reply + 1);
    } while (!want || have < want);
}

int main(int argc, char **argv) {
    if (argc != 4) fail("want:", "PORT SECONDS FILE");
    load(argv[3]);
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) fail("no server on port", argv[1]);
    Samples took = {0};
    uint64_t began = now_ns(), sent_at = began, end = began + (uint64_t)(atof(argv[2]) * 1e9);
    for (int number = 1; sent_at < end; number++) {
        char *bytes = requests[number % count].bytes, text[NUMBER_LENGTH + 1];
        snprintf(text, sizeof text, NUMBER, number);
        memcpy(bytes + requests[number % count].number_at, text, NUMBER_LENGTH);
        for (size_t sent = 0; sent < requests[number % count].length;) {
            ssize_t n = write(fd, bytes + sent, requests[number % count].length - sent);
            if (n <= 0) fail("the server has hung up", "");
            sent += (size_t)n;
        }
        take_reply(fd);
        uint64_t now = now_ns();
        add(&took, now - sent_at);
        sent_at = now;
    }
    printf("{\"requests\":%zu,\"seconds\":%.6f,", took.n, (double)(sent_at - began) / 1e9);
    print_samples("ms", &took);
    printf("}\n");
    return 0;
}
