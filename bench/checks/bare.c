/* The floor of what health checks cost: 1,000 servers every 5 s and nothing else. No names, no parser, no results, no timeouts.
 *
 *     bare PORT http|tcp [quick]
 *
 * Servers are 127.1.0.1 to 127.1.3.250. Forty times a second it asks the next five, each on a connection of its own, with one write and one read. With
 * `quick` the last packet of the handshake is sent at once, as the kernel does by itself; without, it rides on the request. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { SERVERS = 1000, AT_ONCE = 5, TICK_MS = 25 };
static const char REQUEST[] = "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static long long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void begin(int epoll, int server, int port, int quick) {
    int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s < 0) fail("socket");
    int off = 0;
    if (!quick && setsockopt(s, IPPROTO_TCP, TCP_QUICKACK, &off, sizeof off)) fail("setsockopt");
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
    to.sin_addr.s_addr = htonl(0x7f010000 + (server / 250 << 8) + server % 250 + 1);
    connect(s, (struct sockaddr *)&to, sizeof to); /* it is under way; what became of it is seen later */
    struct epoll_event event = { .events = EPOLLOUT, .data.fd = s };
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, s, &event)) fail("epoll_ctl");
}

/* Writable: send, and wait for the answer. Readable: read it, and close. */
static void go_on(int epoll, struct epoll_event *ready, int http) {
    char answer[4096];
    int s = ready->data.fd;
    if (!http) {
        if (ready->events & EPOLLERR) fail("a connection");
        close(s);
    } else if (ready->events & EPOLLOUT) {
        if (send(s, REQUEST, sizeof REQUEST - 1, MSG_NOSIGNAL) < 0) fail("send");
        struct epoll_event event = { .events = EPOLLIN, .data.fd = s };
        if (epoll_ctl(epoll, EPOLL_CTL_MOD, s, &event)) fail("epoll_ctl");
    } else {
        if (recv(s, answer, sizeof answer, 0) <= 0) fail("recv");
        close(s);
    }
}

int main(int count, char **said) {
    if (count < 3) return 2;
    int port = atoi(said[1]), http = !strcmp(said[2], "http"), quick = !http || count > 3;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event ready[64];
    long long due = now_ms();
    for (int next = 0;;) {
        long long wait = due - now_ms();
        if (wait <= 0) {
            for (int i = 0; i < AT_ONCE; i++, next = (next + 1) % SERVERS) begin(epoll, next, port, quick);
            due += TICK_MS;
            continue;
        }
        int n = epoll_wait(epoll, ready, 64, (int)wait);
        for (int i = 0; i < n; i++) go_on(epoll, &ready[i], http);
    }
}
